package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/machine"
)

// reapCommand is the process that outlives a run which is killed.
const reapCommand = "reap"

// dyingMax bounds the wait for a killed run to be dead, dyingPoll is how often it
// is looked at.
const (
	dyingMax  = 30 * time.Second
	dyingPoll = 5 * time.Millisecond
)

// dismissal tells the reaper that the run has tidied up by itself.
var dismissal = []byte("done")

// startReaper starts a process that waits for the end of this one. When this
// one ends without having called dismiss (kill -9, out of memory), it removes
// what the run left: cgroups, temporary folders, mounts.
func startReaper() (dismiss func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the own binary: %w", err)
	}
	reaper := exec.Command(self, reapCommand)
	reaper.Dir = "/"
	reaper.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's signals are not for it
	pipe, err := reaper.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	if err := reaper.Start(); err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	return func() {
		_, _ = pipe.Write(dismissal) // if it is gone already there is nobody to dismiss
		_ = pipe.Close()
		_ = reaper.Wait()
	}, nil
}

func newReap() *cobra.Command {
	return &cobra.Command{
		Use:    reapCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return reap(os.Stdin) },
	}
}

// reap reads until the other end is closed: by dismissal, or by the death of
// the run. The context is not the command line's: a signal must not stop it.
func reap(from io.Reader) error {
	run, err := machine.OwnerOf(os.Getppid())
	if err != nil {
		return fmt.Errorf("reap: look at the run: %w", err)
	}
	said, err := io.ReadAll(io.LimitReader(from, int64(len(dismissal))))
	if err == nil && string(said) == string(dismissal) {
		return nil
	}
	// A dying process closes its files before it is dead, and what belongs to
	// the living is left alone.
	for deadline := time.Now().Add(dyingMax); run.Liveness() == machine.Live && time.Now().Before(deadline); {
		time.Sleep(dyingPoll)
	}
	_, cleanErr := machine.Clean(context.Background(), machine.CleanOptions{})
	return errors.Join(err, cleanErr)
}
