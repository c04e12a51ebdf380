package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/vagrant"
	"github.com/nexuscore-labs/nexus/vagrant/proof"
)

// Where the project keeps what was proven.
const (
	provenFile = "vagrant/proven.json"
	tableFile  = "docs/KERNELS.md"
)

// vmTest is what nexus vm test --json prints.
type vmTest struct {
	Kernels    []proof.Kernel `json:"kernels"`
	Complaints []string       `json:"complaints"`
	Unrecorded []string       `json:"unrecorded"`
}

func newVMTest(term *terminal) *cobra.Command {
	var flags vmFlags
	var write, accept bool
	var only []string
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Load, attach and test every BPF program of the tree on a kernel, and run the labs' small forms",
		Long: "Compile the tests beside every BPF program and run them on the kernels: known workloads with\n" +
			"exact counts, each rung of the attach ladder forced. Then run the small form of each lab. What passed before (" + provenFile + ")\n" +
			"must still pass, and the verifier's work must not grow past a limit; else the exit code is 1.\n" +
			"It needs the project's folder and Go.",
		Example: "  nexus vm test --kernel 6.12\n  nexus vm test --kernel all --write",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(only) > 0 && write {
				return usagef("--write keeps what all packages showed: leave --package out")
			}
			return term.vmTest(cmd.Context(), &flags, only, write, accept)
		},
	}
	flags.register(cmd, 2048, 8*time.Minute)
	cmd.Flags().Lookup("kernel").Usage = "kernels of the matrix, separated by commas; host is the running one, all is every one of the matrix and host"
	cmd.Flags().StringSliceVar(&only, "package", nil, "only these packages below bpf/, and no lab")
	cmd.Flags().BoolVar(&write, "write", false, "keep what passed in "+provenFile+" and "+tableFile+", if there is no complaint")
	cmd.Flags().BoolVar(&accept, "accept", false, "with --write: complaints about growth and refusals are the new measure")
	return cmd
}

func (t *terminal) vmTest(ctx context.Context, flags *vmFlags, only []string, write, accept bool) error {
	names, err := testKernels(flags.kernel)
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	tree, err := proof.FindTree(here)
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	old, err := proof.ReadRecord(filepath.Join(tree, provenFile))
	if err != nil {
		return codeError{err, exitUsage}
	}
	found, err := t.prove(ctx, flags, names, tree, only)
	if err != nil {
		return vmError(ctx, err)
	}
	result := vmTest{Kernels: found, Complaints: proof.Complaints(old, found), Unrecorded: proof.Unrecorded(old, found)}
	acceptable := accept && len(proof.Failures(found)) == 0
	writing := write && (acceptable || len(result.Complaints) == 0)
	if writing {
		result.Unrecorded = nil
	}
	if err := t.printProof(result); err != nil {
		return err
	}
	if writing {
		record := old.With(found)
		if err := errors.Join(record.Write(filepath.Join(tree, provenFile)), proof.WriteTable(filepath.Join(tree, tableFile), record)); err != nil {
			return codeError{err, exitEnvironment}
		}
		return nil
	}
	if len(result.Complaints) > 0 || len(result.Unrecorded) > 0 {
		return verdictError{exitFail}
	}
	return nil
}

// testKernels reads --kernel.
func testKernels(list string) ([]string, error) {
	if list == "all" {
		names, err := matrixKernels()
		return append(names, proof.HostName), err
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if name == proof.HostName {
			continue
		}
		if _, err := vagrant.ByName(name); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// prove runs one kernel after the other: two emulated machines at once would
// take the two processors that one of them uses.
func (t *terminal) prove(ctx context.Context, flags *vmFlags, names []string, tree string, only []string) (found []proof.Kernel, err error) {
	packages, err := proof.Packages(tree)
	if err != nil {
		return nil, codeError{err, exitEnvironment}
	}
	labs := smallLabs()
	if len(only) > 0 {
		if packages, err = chosen(packages, only); err != nil {
			return nil, err
		}
		labs = nil
	}
	dismiss, err := startReaper()
	if err != nil {
		return nil, codeError{err, exitEnvironment}
	}
	defer dismiss()
	dir, err := machine.NewTempRoot()
	if err != nil {
		return nil, codeError{err, exitEnvironment}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	subject := proof.Subject{Packages: packages, Dir: dir, Labs: labs}
	t.say(fmt.Sprintf("compiling the tests of %d packages", len(packages)))
	if err := proof.Compile(ctx, tree, dir, packages); err != nil {
		return nil, err
	}
	for _, name := range names {
		kernel, err := t.proveOne(ctx, flags, name, tree, subject)
		if err != nil {
			return found, fmt.Errorf("kernel %s: %w", name, err)
		}
		t.say(fmt.Sprintf("kernel %s: done after %.0f s", name, float64(kernel.TookMs)/1000))
		found = append(found, kernel)
	}
	return found, nil
}

func (t *terminal) proveOne(ctx context.Context, flags *vmFlags, name, tree string, subject proof.Subject) (proof.Kernel, error) {
	progress := func(done, total int) {
		t.say(fmt.Sprintf("kernel %s: %d/%d %s", name, done+1, total, subject.Name(done)))
	}
	if name == proof.HostName {
		self, err := os.Executable()
		if err != nil {
			return proof.Kernel{}, fmt.Errorf("find the own binary: %w", err)
		}
		return proof.OnHost(ctx, tree, self, subject, progress)
	}
	one := *flags
	one.kernel = name
	options, err := one.machine(ctx, t)
	if err != nil {
		return proof.Kernel{}, err
	}
	return proof.OnMachine(ctx, options, subject, progress)
}

// chosen keeps the packages of these names.
func chosen(packages []proof.Package, names []string) ([]proof.Package, error) {
	var kept []proof.Package
	for _, name := range names {
		i := slices.IndexFunc(packages, func(p proof.Package) bool { return p.Name == name })
		if i < 0 {
			return nil, usagef("bpf/%s has no BPF program", name)
		}
		kept = append(kept, packages[i])
	}
	return kept, nil
}

// smallLabs are the labs that have a small form.
func smallLabs() []proof.Lab {
	var small []proof.Lab
	for _, lab := range labs.All() {
		if _, err := scenarios.BuiltIn(smallScenario(lab.Day)); err == nil {
			small = append(small, proof.Lab{Day: lab.Day, Scenario: smallScenario(lab.Day)})
		}
	}
	return small
}

func (t *terminal) printProof(result vmTest) error {
	if t.json {
		return t.printJSON(result)
	}
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KERNEL\tPACKAGE\tPASSED\tREFUSED\tFAILED\tINSTRUCTIONS\tSTACK")
	for _, k := range result.Kernels {
		for _, tests := range k.Tests {
			counts := map[proof.Status]int{}
			var instructions, stack uint32
			for _, row := range k.Rows {
				if row.Package == tests.Package {
					counts[row.Status]++
					instructions, stack = max(instructions, row.Instructions), max(stack, row.StackBytes)
				}
			}
			fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", k.Name, tests.Package, counts[proof.Passed], counts[proof.Refused],
				counts[proof.Failed]+counts[proof.NotTried], instructions, stack)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, k := range result.Kernels {
		for _, l := range k.Labs {
			fmt.Fprintf(t.stdout, "%s  day %d, small form: %s, %d checked, %d wrong, %d lost, %d phantom\n", k.Name, l.Day, l.Verdict, l.Checked, l.Wrong, l.Lost, l.Phantom)
		}
	}
	for _, complaint := range result.Complaints {
		fmt.Fprintln(t.stdout, "FAILED   ", complaint)
	}
	for _, row := range result.Unrecorded {
		fmt.Fprintln(t.stdout, "NOT IN THE TABLE   ", row, "  (make matrix writes it)")
	}
	return nil
}
