package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
)

// limits bound how long a child may take.
type limits struct {
	ready time.Duration // from its start to Ready
	stop  time.Duration // from SIGTERM to its end
	// machine, if set, puts another machine before the sampler: a test's.
	machine func(*machine.SamplerOptions)
}

var limitsDefault = limits{ready: 30 * time.Second, stop: 20 * time.Second}

// Bounds of what is kept of a child's standard error.
const (
	stderrBytesMax  = 1 << 20
	stderrTailBytes = 2000
)

// childSpec says how to start a contender's process.
type childSpec struct {
	path   string
	args   []string
	cpus   []int
	group  *machine.Cgroup // nil where cgroup2 can't be used
	netns  string          // path of the network namespace to start in; empty: the runner's own
	stderr string          // file
	limits limits
}

// child is a running contender.
type child struct {
	spec    childSpec
	cmd     *exec.Cmd
	stderr  *boundedFile
	readyAt chan string   // gets the address, once
	ended   chan struct{} // closed when the process is gone and its pipe read

	mu      sync.Mutex
	last    message // Done or Failed
	pipeErr error
	waitErr error
}

// startChild starts the process and returns at once. Its CPU affinity, its
// cgroup and its own process group are set before it runs its first
// instruction, and the kernel kills it when the runner dies.
func startChild(spec childSpec) (*child, error) {
	stderr, err := newBoundedFile(spec.stderr)
	if err != nil {
		return nil, environmentError("", "keep standard error: %w", err)
	}
	reading, writing, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(environmentError("", "make the handshake pipe: %w", err), stderr.Close())
	}
	cmd := exec.Command(spec.path, spec.args...)
	cmd.Stderr = stderr
	cmd.ExtraFiles = []*os.File{writing}
	cmd.WaitDelay = spec.limits.stop
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if spec.group != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = spec.group.FD()
	}
	c := &child{spec: spec, cmd: cmd, stderr: stderr, readyAt: make(chan string, 1), ended: make(chan struct{})}
	err = c.spawn()
	closed := writing.Close() // the child's copy must be the only one, or its end goes unseen
	if err = errors.Join(err, closed); err != nil {
		return nil, errors.Join(environmentError("", "start %s: %w", spec.path, err), reading.Close(), stderr.Close())
	}
	go c.watch(reading)
	return c, nil
}

// spawn starts the process from a pinned thread: a child inherits the affinity
// of the thread that starts it, and dies with it (PR_SET_PDEATHSIG means the
// thread, not the process). So the thread stays until the child has ended.
func (c *child) spawn() error {
	started := make(chan error)
	machine.GoPinned(c.spec.cpus, func(err error) {
		if err == nil {
			err = enterNetns(c.spec.netns)
		}
		if err == nil {
			err = c.cmd.Start()
		}
		started <- err
		if err == nil {
			<-c.ended
		}
	})
	return <-started
}

// watch reads the handshake to its end, then reaps the process.
func (c *child) watch(pipe *os.File) {
	defer close(c.ended)
	err := readMessages(pipe, func(m message) {
		if m.Ready != nil {
			select {
			case c.readyAt <- m.Ready.Address:
			default: // said twice: the first one holds
			}
			return
		}
		c.mu.Lock()
		c.last = m
		c.mu.Unlock()
	})
	if err != nil {
		c.kill() // what can't be understood can't be stopped politely
	}
	waitErr := c.cmd.Wait()
	closed := errors.Join(pipe.Close(), c.stderr.Close())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pipeErr, c.waitErr = errors.Join(err, closed), waitErr
}

// awaitReady returns the address that the contender serves at.
func (c *child) awaitReady(ctx context.Context) (string, error) {
	timeout := time.NewTimer(c.spec.limits.ready)
	defer timeout.Stop()
	select {
	case address := <-c.readyAt:
		return address, nil
	case <-c.ended:
		return "", c.failure("ended before it was ready")
	case <-timeout.C:
		c.kill()
		<-c.ended
		return "", contenderError("", "was not ready after %s%s", c.spec.limits.ready, c.stderr.tail())
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// stop asks the contender to end, insists when it doesn't, and returns the
// counters that it reported.
func (c *child) stop() (map[string]float64, error) {
	select {
	case <-c.ended:
		return nil, c.failure("ended before it was told to")
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, fmt.Errorf("tell the contender to stop: %w", err)
	}
	timeout := time.NewTimer(c.spec.limits.stop)
	defer timeout.Stop()
	select {
	case <-c.ended:
	case <-timeout.C:
		c.kill()
		<-c.ended
		return nil, contenderError("", "did not stop within %s of SIGTERM and was killed%s", c.spec.limits.stop, c.stderr.tail())
	}
	c.mu.Lock()
	last, pipeErr, waitErr := c.last, c.pipeErr, c.waitErr
	c.mu.Unlock()
	if last.Done == nil || waitErr != nil || pipeErr != nil {
		return nil, c.failure("did not end well")
	}
	return last.Done.Stats, nil
}

// kill ends the contender and everything that it started.
func (c *child) kill() {
	if c.spec.group != nil {
		_ = c.spec.group.Kill() // the process group below is the second way
	}
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
}

// abandon kills the contender if it still runs and waits for its end.
func (c *child) abandon() {
	select {
	case <-c.ended:
	default:
		c.kill()
		<-c.ended
	}
}

// failure explains a child that has ended: what it said, how it ended, and the
// tail of its standard error.
func (c *child) failure(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	parts := []string{what}
	if c.waitErr != nil {
		parts = append(parts, c.waitErr.Error())
	}
	if c.pipeErr != nil {
		parts = append(parts, c.pipeErr.Error())
	}
	failed := c.last.Failed
	if failed != nil {
		parts = append(parts, failed.Error)
	}
	text := strings.Join(parts, ": ")
	if failed != nil && failed.Environment {
		return environmentError("free what it needs (see `nexus doctor`) and go on with --resume", "%s", text)
	}
	return contenderError("", "%s%s", text, c.stderr.tail())
}

// boundedFile keeps the first megabyte of what is written to it, and the last
// bytes in memory for messages. It is made with the first byte: a silent
// contender leaves no file.
type boundedFile struct {
	mu   sync.Mutex
	path string
	file *os.File
	size int64
	last []byte
}

func newBoundedFile(path string) (*boundedFile, error) {
	if path == "" {
		return nil, errors.New("no file is named")
	}
	return &boundedFile{path: path}, nil
}

func (b *boundedFile) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = append(b.last, p...)
	if extra := len(b.last) - stderrTailBytes; extra > 0 {
		b.last = append(b.last[:0], b.last[extra:]...)
	}
	if b.file == nil {
		file, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return 0, fmt.Errorf("keep standard error: %w", err)
		}
		b.file = file
	}
	if room := stderrBytesMax - b.size; room > 0 {
		n, err := b.file.Write(p[:min(int64(len(p)), room)])
		b.size += int64(n)
		if err != nil {
			return n, fmt.Errorf("keep standard error: %w", err)
		}
	}
	return len(p), nil
}

func (b *boundedFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	b.file = nil
	return err
}

// tail is what a message about a failure ends with.
func (b *boundedFile) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := strings.TrimSpace(string(b.last))
	if text == "" {
		return ""
	}
	return "; its standard error (" + b.path + ") ends with:\n" + text
}
