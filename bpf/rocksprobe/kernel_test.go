package rocksprobe

import (
	_ "embed"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// The tests of this file need a kernel and nothing else: their target is a small
// program with RocksDB's signatures and layout, so they run on every kernel of
// the matrix. What RocksDB itself does is in rocksprobe_test.go.

//go:embed testdata/target_amd64
var targetProgram []byte

var targetLayout = Layout{
	Name: "the test's target", BatchTextAt: 64,
	writes:    []place{{Class: "N7rocksdb6DBImplE", Slot: 2}},
	puts:      []place{{Class: "N7rocksdb10WriteBatchE", Slot: 2}},
	commits:   []place{{Class: "N7rocksdb21OptimisticTransactionE", Slot: 2}},
	rollbacks: []place{{Class: "N7rocksdb21OptimisticTransactionE", Slot: 3}},
}

type target struct {
	t   *testing.T
	in  io.Writer
	out io.Reader
	cmd *exec.Cmd
}

func startTarget(t *testing.T) (*target, Target) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
	path := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(path, targetProgram, 0o755); err != nil {
		t.Fatal(err)
	}
	layout := targetLayout
	layout.BuildID = "5383dc3fe934ea9e02de2bcd0a5e1f1b51db5d8a"
	resolved, err := resolve(path, append(Layouts(), layout))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the target: %v", err)
		}
	})
	return &target{t: t, in: in, out: out, cmd: cmd}, resolved
}

func (g *target) do(commands string) {
	g.t.Helper()
	for _, c := range []byte(commands) {
		answer := make([]byte, 1)
		if _, err := g.in.Write([]byte{c}); err != nil {
			g.t.Fatal(err)
		}
		if _, err := io.ReadFull(g.out, answer); err != nil || answer[0] != c {
			g.t.Fatalf("the target answered %q to %q: %v", answer, c, err)
		}
	}
}

func openTarget(t *testing.T, at Target, options Options) *Probe {
	t.Helper()
	options.Verify, options.Types = true, types
	p, err := Open(at, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	bpftest.Record(t, p.Programs()...)
	return p
}

func TestKernelCounts(t *testing.T) {
	g, at := startTarget(t)
	p := openTarget(t, at, Options{Census: true, Process: g.cmd.Process.Pid})
	g.do("ccrcrrpppppkkkkkkkbb") // 3 commits of 3, 3 refusals, a census of 5, 7 and 2
	changes := drain(t, p)
	if len(changes) != 9 {
		t.Fatalf("read %d changes, want 9: %+v", len(changes), counters(t, p))
	}
	for i, c := range changes {
		want := []Change{{Kind: Put, Key: []byte("key1"), Value: []byte("value1")},
			{Kind: Put, Key: []byte("key2"), Value: []byte("value2"), ColumnFamily: 300}, {Kind: Delete, Key: []byte("key1")}}[i%3]
		if c.Sequence != uint64(i+1) || c.BatchIndex != uint32(i%3) || c.BatchCount != 3 || c.Process != uint32(g.cmd.Process.Pid) {
			t.Errorf("change %d: %+v", i, c)
		}
		if c.Kind != want.Kind || string(c.Key) != string(want.Key) || string(c.Value) != string(want.Value) || c.ColumnFamily != want.ColumnFamily {
			t.Errorf("change %d is %s %q %q in %d", i, c.Kind, c.Key, c.Value, c.ColumnFamily)
		}
	}
	want := Counters{Calls: 6, Committed: 3, Refused: 3, Records: 9, Puts: 5, Commits: 7, Rollbacks: 2}
	if got := counters(t, p); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestKernelUnreadable(t *testing.T) {
	g, at := startTarget(t)
	p := openTarget(t, at, Options{})
	g.do("uc")
	changes := drain(t, p)
	if len(changes) != 5 {
		t.Fatalf("read %d changes, want 5: %+v", len(changes), counters(t, p))
	}
	if c := changes[0]; c.Kind != Put || string(c.Key) != "a" || string(c.Value) != "b" {
		t.Errorf("before the unknown record: %s %q %q", c.Kind, c.Key, c.Value)
	}
	if c := changes[1]; c.Kind != Unreadable || c.Sequence != 2 || c.BatchIndex != 1 || c.BatchCount != 2 {
		t.Errorf("the unknown record: %+v", c)
	}
	if got := counters(t, p); got.Unreadable != 1 || got.Lost() != 1 {
		t.Errorf("%+v", got)
	}
}

func TestKernelLarge(t *testing.T) {
	g, at := startTarget(t)
	p := openTarget(t, at, Options{})
	g.do("m")
	changes := drain(t, p)
	if len(changes) != 1 || changes[0].Cut || len(changes[0].Value) != 100000 || string(changes[0].Key) != "big" {
		t.Errorf("%d changes, %+v", len(changes), counters(t, p))
	}
}

func TestKernelFullRing(t *testing.T) {
	g, at := startTarget(t)
	p := openTarget(t, at, Options{RingBytes: 4096, WakeupBytes: 2048})
	for range 40 {
		g.do("c")
	}
	first := drain(t, p)
	g.do("c")
	changes := append(first, drain(t, p)...)
	got := counters(t, p)
	if got.Records != 41*3 || got.LostFull == 0 || got.LostFull+uint64(len(changes)) != got.Records {
		t.Errorf("read %d: %+v", len(changes), got)
	}
	if p.Missing() > got.LostFull {
		t.Errorf("the streams miss %d of %d lost", p.Missing(), got.LostFull)
	}
}

func TestKernelOtherProcess(t *testing.T) {
	g, at := startTarget(t)
	p := openTarget(t, at, Options{Process: os.Getpid()})
	g.do("ccc")
	if got := counters(t, p); got != (Counters{}) {
		t.Errorf("counted another process: %+v", got)
	}
}

func TestClose(t *testing.T) {
	_, at := startTarget(t)
	p, err := Open(at, Options{Types: types})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		var c Change
		read <- p.Read(&c, time.Time{})
	}()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("a read that waited: %v", err)
	}
}
