// Command nexus runs the NexusCore labs: lessons in systems design as real
// subsystems, driven by one load generator, measured in the kernel, judged.
package main

import (
	"os"

	"github.com/nexuscore-labs/nexus/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
