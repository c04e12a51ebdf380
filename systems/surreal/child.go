package surreal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// child is a supervised server process. It dies with this one.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan []byte // of standard output
	stderr *tail
	done   chan struct{}
	err    error // of Wait, once done is closed
}

// tail keeps the end of what was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLenMax = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > tailLenMax {
		t.text = append([]byte(nil), t.text[len(t.text)-tailLenMax:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, lines: make(chan []byte, 16), stderr: &tail{}, done: make(chan struct{})}
	cmd.Stderr = c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	// The parent-death signal is tied to the thread that forks, so that thread
	// must live as long as the child.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.watch(out)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// watch passes lines on, drops what nobody asks for, and waits for the end.
func (c *child) watch(out io.Reader) {
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		select {
		case c.lines <- bytes.Clone(scanner.Bytes()):
		default:
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line too long for the scanner
	c.err = c.cmd.Wait()
	close(c.done)
}

// message waits for the next line and decodes it.
func (c *child) message(ctx context.Context, into any) error {
	select {
	case line := <-c.lines:
		return json.Unmarshal(line, into)
	case <-c.done:
		return fmt.Errorf("it ended (%v): %s", c.err, c.stderr)
	case <-ctx.Done():
		return fmt.Errorf("%w: %s", ctx.Err(), c.stderr)
	}
}

func (c *child) kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.cmd.Path, err)
	}
	<-c.done
	return nil
}

// stop lets the server close its store, and then makes sure that it is gone.
func (c *child) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopIn)
	defer cancel()
	closed := c.close(ctx)
	return errors.Join(closed, c.kill())
}

// close asks for a clean end. The bridge says when the store is closed; the
// surreal program just ends.
func (c *child) close(ctx context.Context) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: it had ended before (%v): %s", c.cmd.Path, err, c.stderr)
	}
	for {
		var said struct{ Closed bool }
		select {
		case line := <-c.lines:
			if json.Unmarshal(line, &said) == nil && said.Closed {
				return nil
			}
		case <-c.done:
			if c.err != nil {
				return fmt.Errorf("stop %s: %w: %s", c.cmd.Path, c.err, c.stderr)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop %s: it did not close its store in %v", c.cmd.Path, stopIn)
		}
	}
}

func randomHex(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// startBridge serves the embedded engine.
func (s *Server) startBridge(ctx context.Context) error {
	if err := s.secrets(); err != nil {
		return err
	}
	dir, err := installDir()
	if err != nil {
		return err
	}
	store, err := filepath.Abs(filepath.Join(s.options.Dir, "surreal.rocksdb"))
	if err != nil {
		return fmt.Errorf("find the store's folder: %w", err)
	}
	address := "rocksdb://" + store
	if s.options.SyncNever {
		address += "?sync=never"
	}
	cmd := exec.Command("node", filepath.Join(dir, "bridge.mjs"))
	cmd.Env = append(os.Environ(), "NEXUS_SURREAL_STORE="+address, "NEXUS_SURREAL_USER="+s.User, "NEXUS_SURREAL_PASSWORD="+s.Password)
	c, err := startChild(cmd)
	if err != nil {
		return fmt.Errorf("start SurrealDB's bridge: %w", err)
	}
	var ready struct {
		Port           int
		Version, Addon string
	}
	if err := c.message(ctx, &ready); err != nil {
		return errors.Join(fmt.Errorf("start SurrealDB's bridge: %w", err), c.kill())
	}
	s.child, s.Process = c, cmd.Process.Pid
	s.URL, s.Version, s.Library = "ws://127.0.0.1:"+strconv.Itoa(ready.Port), "surrealdb-"+ready.Version, ready.Addon
	return nil
}

// secretName is the file in Options.Dir with the owner's password.
const secretName = "owner-password"

// secrets makes a password once, or finds that of the store which is there: the
// owner is written to the store with it.
func (s *Server) secrets() error {
	if s.Password != "" {
		return nil
	}
	s.User = "root"
	name := filepath.Join(s.options.Dir, secretName)
	kept, err := os.ReadFile(name)
	if err == nil {
		s.Password = string(kept)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find SurrealDB's password: %w", err)
	}
	if s.Password, err = randomHex(16); err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(s.Password), 0o600); err != nil {
		return fmt.Errorf("keep SurrealDB's password: %w", err)
	}
	return nil
}

// startProgram serves by the surreal program.
func (s *Server) startProgram(ctx context.Context) error {
	if err := s.secrets(); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	cmd := exec.Command(s.Library, "start", "--bind", address, "--no-banner", "--log", "warn",
		"rocksdb://"+filepath.Join(s.options.Dir, "surreal.rocksdb"))
	cmd.Env = append(os.Environ(), "SURREAL_USER="+s.User, "SURREAL_PASS="+s.Password)
	if s.options.SyncNever {
		cmd.Env = append(cmd.Env, "SURREAL_SYNC_DATA=false")
	}
	c, err := startChild(cmd)
	if err != nil {
		return fmt.Errorf("start SurrealDB: %w", err)
	}
	s.child, s.Process, s.URL = c, cmd.Process.Pid, "ws://"+address
	for {
		err := s.askVersion(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("start SurrealDB: it ended (%v): %s", c.err, c.stderr)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start SurrealDB: %w: %s", err, c.stderr), s.Kill())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
