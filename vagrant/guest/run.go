package guest

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run does what the machine's request says and reports to the host.
func Run(ctx context.Context) error {
	text, err := os.ReadFile(RequestPath)
	if err != nil {
		return fmt.Errorf("%s runs in a virtual machine; see nexus vm: %w", RunCommand, err)
	}
	var request Request
	if err := json.Unmarshal(text, &request); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	// The port needs its module, so earlier failures show on the console only.
	if err := loadModules(request.Modules); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	host := NewWriter(port)
	if err := host.SendJSON(KindHello, hello()); err != nil {
		return err
	}
	if err := serve(ctx, request, host); err != nil {
		return errors.Join(err, host.Send(KindError, []byte(err.Error())))
	}
	return host.SendJSON(KindDone, Done{OOMKills: oomKills()})
}

func hello() Hello {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // cannot fail with a valid address
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return Hello{Release: unix.ByteSliceToString(uts.Release[:]), UptimeMs: now.Nano() / int64(time.Millisecond)}
}

func serve(ctx context.Context, request Request, host *Writer) error {
	if request.Disk {
		if err := mountDisk(); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll(TempDir, 0o1777), loopbackUp(), unix.Sethostname([]byte("nexus-vm"))); err != nil {
		return err
	}
	if request.Shell {
		return shell()
	}
	for i, command := range request.Commands {
		if err := host.SendJSON(KindStart, Start{Index: i}); err != nil {
			return err
		}
		exit := runCommand(ctx, i, command, host)
		if err := host.SendJSON(KindExit, exit); err != nil {
			return err
		}
	}
	if request.Collect == "" {
		return nil
	}
	return collect(request.Collect, host.Stream(KindFiles))
}

// outputDelay bounds the wait for grandchildren that keep the output open.
const outputDelay = 5 * time.Second

func runCommand(ctx context.Context, index int, command Command, host *Writer) Exit {
	began, killsBefore := time.Now(), oomKills()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(command.TimeoutMs)*time.Millisecond)
	defer cancel()
	cmd := exec.CommandContext(ctx, command.Args[0], command.Args[1:]...)
	cmd.Env, cmd.Dir = append(environment(), command.Env...), command.Dir
	cmd.Stdout, cmd.Stderr = host.Stream(KindStdout), host.Stream(KindStderr)
	cmd.WaitDelay = outputDelay
	err := cmd.Run()
	exit := Exit{Index: index, TimedOut: ctx.Err() != nil, OOMKills: oomKills() - killsBefore, TookMs: time.Since(began).Milliseconds()}
	var failed *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &failed):
		exit.Code = failed.ExitCode()
		if status, ok := failed.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			exit.Signal = status.Signal().String()
		}
	default:
		exit.Code = -1
		fmt.Fprintf(cmd.Stderr, "run %s: %v\n", command.Name, err)
	}
	return exit
}

// oomKills is how many processes this kernel has killed for memory; -1 where it
// doesn't say.
func oomKills() int {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		if count, found := strings.CutPrefix(line, "oom_kill "); found {
			n, err := strconv.Atoi(strings.TrimSpace(count))
			if err == nil {
				return n
			}
		}
	}
	return -1
}

// collect sends a folder as a tar stream.
func collect(dir string, to io.Writer) error {
	archive := tar.NewWriter(to)
	if err := archive.AddFS(os.DirFS(dir)); err != nil {
		return fmt.Errorf("collect %s: %w", dir, err)
	}
	return archive.Close()
}
