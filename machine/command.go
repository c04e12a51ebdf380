package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// commandEndWait is how long an interrupted package manager may take to stop:
// dpkg finishes the step it is in.
const commandEndWait = time.Minute

// outputTailBytes is how much of a command's output is kept to explain a failure.
const outputTailBytes = 16 << 10

// commandEnv keeps dpkg from asking questions, and apt's messages in the words
// that aptFailure knows.
var commandEnv = []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}

// runCommand runs argv with its output shown, and returns the end of it. When
// ctx ends, the command is asked to stop as Ctrl-C would.
func runCommand(ctx context.Context, argv []string, in io.Reader, out io.Writer) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), commandEnv...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = commandEndWait
	cmd.Stdin = in
	tail := &tailWriter{}
	both := io.MultiWriter(out, tail)
	cmd.Stdout, cmd.Stderr = both, both
	if err := cmd.Run(); err != nil {
		return string(tail.kept), fmt.Errorf("it failed: %w", err)
	}
	return string(tail.kept), nil
}

// tailWriter keeps the last outputTailBytes that are written to it.
type tailWriter struct{ kept []byte }

func (t *tailWriter) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - outputTailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}
