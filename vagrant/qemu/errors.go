// Package qemu boots a distribution's kernel package in QEMU with an initial file
// system made of this binary: no image, no network, nothing left behind. It uses
// KVM where a probe shows that a guest truly runs, and emulation elsewhere.
package qemu

import (
	"fmt"
	"strings"
)

// LackError says that this environment can't start the machine: exit code 3.
type LackError struct {
	What string // what is missing, and why that ends it
	Fix  string // the command that provides it
	Err  error  // may be nil
}

// Error says what is missing and what provides it.
func (e *LackError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Fix != "" {
		s += "\n  fix: " + e.Fix
	}
	return s
}

// Unwrap returns the cause.
func (e *LackError) Unwrap() error { return e.Err }

// ExitCode is 3.
func (e *LackError) ExitCode() int { return 3 }

// Fate is how a machine can go wrong.
type Fate string

// The ways in which a machine ends before its work.
const (
	FatePanic   Fate = "its kernel panicked"
	FateSilent  Fate = "it did not come up in time"
	FateHang    Fate = "it did not end in time"
	FateMemory  Fate = "it ran out of memory"
	FateGone    Fate = "it ended before its work was done"
	FateRefused Fate = "it could not do as asked"
)

// MachineError says that the machine started and then failed: exit code 4.
type MachineError struct {
	Fate    Fate
	Detail  string
	Console string // path of the kept console output
	Tail    []string
}

// Error gives the last lines of the console and where the rest is.
func (e *MachineError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the virtual machine failed: %s", e.Fate)
	if e.Detail != "" {
		fmt.Fprintf(&b, " (%s)", e.Detail)
	}
	for _, line := range e.Tail {
		fmt.Fprintf(&b, "\n  | %s", line)
	}
	fmt.Fprintf(&b, "\n  console: %s", e.Console)
	return b.String()
}

// ExitCode is 4.
func (e *MachineError) ExitCode() int { return 4 }
