package rocksprobe

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	rocksdbLibrary = "/usr/lib/x86_64-linux-gnu/librocksdb.so.7.8"
	writerSource   = "testdata/writer.cc"
)

// writerBinary compiles the writer once per source, into the cache of the user.
var writerBinary = sync.OnceValues(func() (string, error) {
	source, err := os.ReadFile(writerSource)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "nexus")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("rockswriter-%x", sha256.Sum256(source))[:28])
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	half := fmt.Sprintf("%s.%d", path, os.Getpid())
	out, err := exec.Command("g++", "-O2", "-std=c++17", "-o", half, writerSource, "-lrocksdb", "-lpthread").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the writer: %w: %s", err, out)
	}
	return path, os.Rename(half, path)
})

// writer is the running second target.
type writer struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     *os.File
	out    *bufio.Reader
	closed bool
}

// needRocksDB skips where the target can't be had.
func needRocksDB(t testing.TB) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
	for _, need := range []string{rocksdbLibrary, "/usr/include/rocksdb/db.h"} {
		if _, err := os.Stat(need); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("%s is not there: nexus setup --for cdc installs it", need)
		}
	}
	if _, err := exec.LookPath("g++"); err != nil {
		t.Skip("g++ is not on PATH: nexus setup --for cdc installs it")
	}
}

func startWriter(t testing.TB, dir string) *writer {
	t.Helper()
	binary, err := writerBinary()
	if err != nil {
		t.Fatal(err)
	}
	in, inWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, cmd: exec.Command(binary, dir), in: inWrite}
	w.cmd.Stdin, w.cmd.Stderr = in, os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	w.out = bufio.NewReader(out)
	t.Cleanup(w.close)
	w.do("sequence")
	return w
}

// do runs a command and returns the database's latest sequence number and how
// long the command took inside of the writer.
func (w *writer) do(format string, args ...any) (sequence uint64, took time.Duration) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.in, format+"\n", args...); err != nil {
		w.t.Fatal(err)
	}
	line, err := w.out.ReadString('\n')
	if err != nil {
		w.t.Fatalf("the writer's answer to %q: %v", fmt.Sprintf(format, args...), err)
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "ok" {
		w.t.Fatalf("the writer answered %q", line)
	}
	sequence, err = strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	ns, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return sequence, time.Duration(ns)
}

// crash sends a command that the writer does not survive.
func (w *writer) crash(command string) {
	w.t.Helper()
	if _, err := fmt.Fprintln(w.in, command); err != nil {
		w.t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := w.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		w.t.Fatalf("the writer ended with %v, want a kill", err)
	}
	w.closed = true
	w.in.Close()
}

func (w *writer) close() {
	if w.closed {
		return
	}
	w.closed = true
	w.in.Close()
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("the writer: %v", err)
	}
}
