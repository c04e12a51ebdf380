package bpftest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	tracefsEnv = "NEXUS_BPF_TRACEFS"
	tracefsDir = "/sys/kernel/tracing"
)

// inTracefs runs the tests in a mount namespace of their own that has a tracefs,
// where the machine mounts none: the classic tracepoint rung needs it. It
// returns false if there is nothing to do, or nothing can be done.
func inTracefs() (code int, ran bool) {
	if os.Getenv(tracefsEnv) != "" {
		// On failure the tests run without and say that the rung is refused.
		_ = unix.Mount("tracefs", tracefsDir, "tracefs", 0, "")
		return 0, false
	}
	var fs unix.Statfs_t
	if unix.Geteuid() != 0 || unix.Statfs(tracefsDir, &fs) != nil || fs.Type == unix.TRACEFS_MAGIC {
		return 0, false
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), tracefsEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit):
		return exit.ExitCode(), true
	}
	fmt.Fprintf(os.Stderr, "tests run without tracefs: %v\n", err)
	return 0, false
}
