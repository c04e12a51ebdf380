package stagetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/machine"
)

// process is a server in a cgroup of its own, with what disturbs it.
type process struct {
	cmd      *exec.Cmd
	calls    [2]*os.File // from the server to its hog; nil without one
	stdin    io.WriteCloser
	stdout   *bufio.Reader
	group    *machine.Cgroup
	throttle string // cgroup v1 folder
	port     uint16
	hog      *exec.Cmd
	ended    chan struct{}
	stopped  bool
}

func (b *Bench) start(ctx context.Context, network, injection string) (p *process, err error) {
	p = &process{ended: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	if p.group, err = machine.NewCgroup(); err != nil {
		return p, err
	}
	p.cmd = exec.CommandContext(ctx, b.Self, "selftest", ServerCommand, network, injection, b.Dir)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: p.group.FD(), Pdeathsig: syscall.SIGKILL}
	if injection == Hog {
		if p.calls[0], p.calls[1], err = os.Pipe(); err != nil {
			return p, err
		}
		p.cmd.ExtraFiles = []*os.File{p.calls[1]}
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return p, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return p, err
	}
	p.stdout = bufio.NewReader(out)
	if err = startPinned(p.cmd, b.CPUs.Contender[:1], p.ended); err != nil {
		p.cmd = nil
		return p, fmt.Errorf("start the server: %w", err)
	}
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		return p, fmt.Errorf("wait for the server: %w", err)
	}
	port, err := strconv.ParseUint(strings.TrimSpace(line), 10, 16)
	if err != nil {
		return p, fmt.Errorf("the server said %q: %w", line, err)
	}
	p.port = uint16(port)
	switch injection {
	case Disk:
		p.throttle, b.disk = throttle(p.cmd.Process.Pid, b.Dir)
	case Hog:
		err = p.startHog(ctx, b)
	}
	return p, err
}

// startPinned starts a process from a thread with its affinity, which a child
// inherits; the thread lives as long as the child, that dies with it.
func startPinned(cmd *exec.Cmd, cpus []int, ended <-chan struct{}) error {
	started := make(chan error)
	machine.GoPinned(cpus, func(err error) {
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			<-ended
		}
	})
	return <-started
}

func (p *process) startHog(ctx context.Context, b *Bench) error {
	hog := exec.CommandContext(ctx, b.Self, "selftest", HogCommand)
	hog.Stdin, hog.Stderr = p.calls[0], os.Stderr
	hog.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := hog.StdoutPipe()
	if err != nil {
		return err
	}
	if err := startPinned(hog, b.CPUs.Contender[:1], p.ended); err != nil {
		return fmt.Errorf("start the CPU hog: %w", err)
	}
	p.hog = hog
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the CPU hog: %w", err)
	}
	return nil
}

// stop ends the server and returns its account.
func (p *process) stop() (Account, error) {
	var account Account
	if err := p.stdin.Close(); err != nil {
		return account, fmt.Errorf("tell the server to stop: %w", err)
	}
	if err := json.NewDecoder(p.stdout).Decode(&account); err != nil {
		return account, fmt.Errorf("read the server's account: %w", err)
	}
	p.stopped = true
	if err := p.cmd.Wait(); err != nil {
		return account, fmt.Errorf("the server: %w", err)
	}
	if account.Requests == 0 {
		return account, errors.New("the server served nothing")
	}
	return account, nil
}

// close ends what still runs and removes what was made.
func (p *process) close() error {
	var errs []error
	if p.hog != nil {
		errs = append(errs, p.hog.Process.Kill())
		_ = p.hog.Wait() // killed
	}
	if p.cmd != nil && !p.stopped {
		_ = p.cmd.Process.Kill() // it may have ended by itself
		_ = p.cmd.Wait()
	}
	close(p.ended)
	for _, end := range p.calls {
		if end != nil {
			errs = append(errs, end.Close())
		}
	}
	if p.group != nil {
		errs = append(errs, p.group.Remove())
	}
	if p.throttle != "" {
		errs = append(errs, os.Remove(p.throttle))
	}
	return errors.Join(errs...)
}

const (
	blkioRoot     = "/sys/fs/cgroup/blkio"
	writesPerSMax = 200
)

// throttle makes the disk of a folder slow for a process where the kernel offers
// it, and says what it did. Without, a write that the disk itself must answer is
// the delay.
func throttle(pid int, dir string) (folder, what string) {
	const plain = "writes past the page cache, not throttled: "
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return "", plain + err.Error()
	}
	folder = filepath.Join(blkioRoot, machine.LeftoverName())
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", plain + err.Error()
	}
	limit := fmt.Sprintf("%d:%d %d", unix.Major(stat.Dev), unix.Minor(stat.Dev), writesPerSMax)
	err := os.WriteFile(filepath.Join(folder, "blkio.throttle.write_iops_device"), []byte(limit), 0)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}
	if err != nil {
		return folder, plain + err.Error()
	}
	return folder, fmt.Sprintf("writes past the page cache, at most %d a second by the block layer's throttle (cgroup v1 blkio)", writesPerSMax)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
