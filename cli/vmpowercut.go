package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/labs/day07"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// Cuts by mode.
const (
	powerCutsQuick = 2
	powerCutsFull  = 20
)

// vmPowerCut is what nexus vm powercut --json prints.
type vmPowerCut struct {
	Cuts    []day07.PowerCut `json:"cuts"` // the first is the control
	Acked   uint64           `json:"acked"`
	Lost    uint64           `json:"lost"`
	Phantom uint64           `json:"phantom"`
	Wrong   uint64           `json:"wrong"`
}

func newVMPowerCut(term *terminal) *cobra.Command {
	var flags vmFlags
	var mode string
	var cuts int
	var seed uint64
	cmd := &cobra.Command{
		Use:   "powercut",
		Short: "Cut the power of a machine in which Day 7's log appends; what was acknowledged must be there",
		Long: "The log of Day 7 appends in a virtual machine to a disk with a volatile write cache. At a random\n" +
			"moment the power goes: of what was not flushed each sector survives or not, and the machine is\n" +
			"killed. The host reads the disk and looks for every record whose acknowledgement had reached it.\n" +
			"First comes a control: a disk that ignores flushes, with which records must be lost; if none is,\n" +
			"the experiment shows nothing (exit code 5). A lost, phantom or changed record is exit code 4.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mode != scenarios.ModeQuick && mode != scenarios.ModeFull {
				return usagef("unknown mode %q: use quick or full", mode)
			}
			if cuts == 0 {
				cuts = powerCutsQuick
				if mode == scenarios.ModeFull {
					cuts = powerCutsFull
				}
			}
			if cuts < 1 || cuts > 10_000 {
				return usagef("--cuts %d is not between 1 and 10000", cuts)
			}
			return term.powerCuts(cmd.Context(), &flags, cuts, seed)
		},
	}
	flags.register(cmd, 768, time.Minute)
	cmd.Flags().StringVar(&mode, "mode", scenarios.ModeQuick, fmt.Sprintf("quick (%d cuts) or full (%d)", powerCutsQuick, powerCutsFull))
	cmd.Flags().IntVar(&cuts, "cuts", 0, "number of cuts; default by mode")
	cmd.Flags().Uint64Var(&seed, "seed", 7, "of payloads, moments and coins")
	return cmd
}

func (t *terminal) powerCuts(ctx context.Context, flags *vmFlags, cuts int, seed uint64) error {
	machine, err := flags.machine(ctx, t)
	if err != nil {
		return err
	}
	dismiss, err := startReaper()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	defer dismiss()
	n := 0
	done, err := day07.PowerCuts(ctx, day07.PowerCutOptions{Machine: machine, Cuts: cuts, Seed: seed, Progress: func(p day07.PowerCut) {
		t.sayPowerCut(n, cuts, p)
		n++
	}})
	if err != nil {
		return vmError(ctx, err)
	}
	control, real := done[0], done[1:]
	var sum vmPowerCut
	sum.Cuts = done
	for _, p := range real {
		sum.Acked, sum.Lost, sum.Phantom, sum.Wrong = sum.Acked+p.Acked, sum.Lost+p.Lost, sum.Phantom+p.Phantom, sum.Wrong+p.Wrong
	}
	if t.json {
		err = t.printJSON(sum)
	} else {
		_, err = fmt.Fprintf(t.stdout, "%d power cuts on kernel %s: %d records acknowledged, lost %d, phantom %d, wrong %d (control with a lying disk: %d of %d lost)\n",
			len(real), real[0].Release, sum.Acked, sum.Lost, sum.Phantom, sum.Wrong, control.Lost, control.Acked)
	}
	switch {
	case err != nil:
		return codeError{err, exitEnvironment}
	case sum.Lost+sum.Phantom+sum.Wrong > 0:
		return verdictError{exitContender}
	case !control.Bad():
		return codeError{errors.New("the control lost nothing on a disk that ignores flushes: this experiment shows nothing"), exitInvalid}
	case sum.Acked == 0:
		return codeError{errors.New("no record was acknowledged: this experiment shows nothing"), exitInvalid}
	}
	return nil
}

func (t *terminal) sayPowerCut(n, of int, p day07.PowerCut) {
	what := fmt.Sprintf("power cut %d/%d", n, of)
	if p.Control {
		what = "control (the disk ignores flushes)"
	}
	t.say(fmt.Sprintf("%s: boot %.1f s, cut after %d ms, %d acknowledged, %d writes, %d flushes, %d of %d volatile sectors survived; lost %d, phantom %d, wrong %d",
		what, float64(p.BootMs)/1000, p.AfterMs, p.Acked, p.Disk.Writes, p.Disk.Flushes, p.Disk.Survived, p.Disk.Volatile, p.Lost, p.Phantom, p.Wrong))
	for _, f := range p.Failures {
		if !p.Control {
			t.say("  " + f)
		}
	}
}
