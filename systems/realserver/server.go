// Package realserver starts the real servers that the project's systems are
// compared with: on a free loopback port, with a folder of their own, and ended
// with their user. A server that is named by URL is used as it is, and left.
package realserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// ErrMissing says that a server's program is not installed; the error's text
// names the package (see nexus setup).
var ErrMissing = errors.New("realserver: program not found")

const (
	startTries   = 3 // another process may take the port in between
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
	stderrLenMax = 64 << 10
)

// Server is a running server. Its methods may be called concurrently.
type Server struct {
	URL     string
	Address string // host:port
	Version string // as the server tells it
	Managed bool   // started here; false: named by URL

	command *exec.Cmd
	stop    syscall.Signal
	stderr  *tail
	exited  chan struct{} // closed when the process ended
	exit    error
	close   sync.Once
	err     error
	clean   func() error
}

// PID is the server's process; 0 for one that was not started here.
func (s *Server) PID() int {
	if s.command == nil {
		return 0
	}
	return s.command.Process.Pid
}

// Stderr is the end of what the server wrote to its standard error and output.
func (s *Server) Stderr() string {
	if s.stderr == nil {
		return ""
	}
	return s.stderr.String()
}

// Exited is closed when a started server's process has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Close ends a server that was started here, kindly and then by force, and
// removes its folder.
func (s *Server) Close() error {
	s.close.Do(func() {
		if s.command == nil {
			return
		}
		_ = s.command.Process.Signal(s.stop) // it may have ended by itself
		select {
		case <-s.exited:
		case <-time.After(stopTimeout):
			s.err = fmt.Errorf("%s did not stop within %v and was killed: %s", s.command.Path, stopTimeout, s.Stderr())
			_ = s.command.Process.Kill()
			<-s.exited
		}
		s.err = errors.Join(s.err, s.clean())
	})
	return s.err
}

// start runs a server's program until it is asked to stop. The process ends with
// this one, however this one ends: its parent is a thread that waits for it.
func (s *Server) start(command *exec.Cmd) error {
	s.command, s.stderr, s.exited = command, &tail{}, make(chan struct{})
	command.Stdout, command.Stderr = s.stderr, s.stderr
	command.WaitDelay = time.Second
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		s.exit = command.Wait()
		close(s.exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", command.Path, err)
	}
	return nil
}

// await polls until ready has no error, the process ended, or time is up.
func (s *Server) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended at its start (%w): %s", s.command.Path, s.exit, s.Stderr())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", s.command.Path, err, s.Stderr())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// retry starts a server on a free port. A port that was free when it was looked
// for may be taken when the server wants it.
func retry(ctx context.Context, start func(port int) (*Server, error)) (*Server, error) {
	var failed error
	for range startTries {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		server, err := start(port)
		if err == nil {
			return server, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil || errors.Is(err, ErrMissing) {
			break
		}
	}
	return nil, failed
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// program finds a program on PATH or in folders by glob pattern, the version that
// sorts last first.
func program(debian string, names []string, patterns ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, pattern := range patterns {
			found, err := filepath.Glob(filepath.Join(pattern, name))
			if err != nil {
				return "", err
			}
			if len(found) > 0 {
				slices.Sort(found)
				return found[len(found)-1], nil
			}
		}
	}
	return "", fmt.Errorf("%w: %v (Debian's package %s)", ErrMissing, names, debian)
}

// temporary makes a folder in parent, which is empty for the system's own place.
func temporary(parent, name string) (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(parent, "nexus-"+name+"-")
	if err != nil {
		return "", nil, fmt.Errorf("make folder for %s: %w", name, err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.Write(p)
	if over := t.kept.Len() - stderrLenMax; over > 0 {
		t.kept.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept.String()
}
