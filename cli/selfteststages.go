package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/bpf/stageprobe"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/scenarios/stagetest"
)

// newSelftestStages is `nexus selftest stages`.
func newSelftestStages(term *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "stages",
		Short: "Inject delays of known length into a server and look for them in the stages of its requests",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return selftestStages(cmd.Context(), term)
		},
	}
}

// newStageServer and newStageHog are its processes.
func newStageServer() *cobra.Command {
	return &cobra.Command{
		Use: stagetest.ServerCommand, Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			return stagetest.Serve(args[0], args[1], args[2])
		},
	}
}

func newStageHog() *cobra.Command {
	return &cobra.Command{
		Use: stagetest.HogCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return stagetest.BeHog(cmd.Context()) },
	}
}

func selftestStages(ctx context.Context, term *terminal) (err error) {
	probe, err := stageprobe.Open(stageprobe.Options{})
	if err != nil {
		return codeError{fmt.Errorf("%w (`nexus doctor` says what this kernel lacks)", err), exitEnvironment}
	}
	defer func() { err = errors.Join(err, probe.Close()) }()
	self, err := stagetest.Self()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	cpus, err := machine.PlanCPUs()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	if cpus.Shared {
		return codeError{errors.New("server and generator need a CPU each, and this machine has one"), exitEnvironment}
	}
	dir, err := machine.NewTempRoot()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bench := stagetest.Bench{Self: self, Probe: probe, CPUs: cpus, Dir: dir, Progress: func(text string) {
		if !term.quiet {
			fmt.Fprintln(term.stderr, "stages:", text)
		}
	}}
	result, err := bench.Run(ctx)
	if err != nil {
		return drivingError(err)
	}
	if err := term.printStages(result); err != nil {
		return err
	}
	switch result.Status() {
	case "fail":
		return verdictError{exitFail}
	case "disturbed":
		return verdictError{exitInvalid}
	}
	return nil
}

func (t *terminal) printStages(result *stagetest.Result) error {
	if t.json {
		encoder := json.NewEncoder(t.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	table := pretty.NewWriter()
	table.SetStyle(pretty.StyleLight)
	table.AppendHeader(pretty.Row{"over", "injected", "stage", "requests", "joined", "injected", "found", "off", "sum off", "verdict"})
	for _, c := range result.Cases {
		table.AppendRow(pretty.Row{
			c.Network, c.Injection, c.Stage, c.Requests, fmt.Sprintf("%.1f%%", 100*float64(c.Joined)/float64(c.Requests)),
			quantity.Ns.Format(c.InjectedNs), quantity.Ns.Format(c.FoundNs),
			fmt.Sprintf("%.1f%%", 100*c.ErrorShare), fmt.Sprintf("%.2f%%", 100*c.SumShare), c.Status,
		})
	}
	var columns []pretty.ColumnConfig
	for number := 4; number <= 9; number++ {
		columns = append(columns, pretty.ColumnConfig{Number: number, Align: text.AlignRight})
	}
	table.SetColumnConfigs(columns)
	fmt.Fprintln(t.stdout, table.Render())
	for _, c := range result.Cases {
		if c.Why != "" {
			fmt.Fprintf(t.stdout, "%s over %s: %s\n", c.Injection, c.Network, c.Why)
		}
	}
	fmt.Fprintf(t.stdout, "limit %.0f%%; disk: %s\n", 100*result.Tolerance, result.Disk)
	for _, network := range []string{"tcp", "udp"} {
		fmt.Fprintf(t.stdout, "the probe on an idle round trip over %s: %+.1f%% (rate without it over rate with it)\n",
			network, 100*(result.OverheadRatio[network]-1))
	}
	_, err := fmt.Fprintln(t.stdout, result.Status())
	return err
}
