package scenarios

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
)

// The test binary is also the contenders' binary: `serve …` makes it one, and
// `run-interrupted <runs>` a run that the test kills or interrupts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := ServeChild(context.Background(), testLab(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(ExitCode(nil, err))
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "run-interrupted" {
		os.Exit(runInterrupted(os.Args[2]))
	}
	// A binary built with -race sleeps a second before it exits; the children
	// needn't.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// testLab has one contender for each way of going wrong, and honest ones.
func testLab() *Lab {
	lab := &Lab{
		Day: 7, Title: "test", Question: "Does the runner tell good from bad?",
		Source: func(spec TrialSpec) (loadgen.Source, error) {
			return &testSource{seed: spec.Seed, streams: make([]testStream, spec.Point.Writers)}, nil
		},
		Verify: verifyTestLog,
	}
	for _, c := range []struct {
		name, role string
		serve      func(ctx context.Context, env ServeEnv) error
	}{
		{"honest", "subject", serveHonest},
		{"slow", "baseline", serveSlow},
		{"peer", "peer", serveHonest},
		{"crash", "baseline", func(context.Context, ServeEnv) error {
			fmt.Fprintln(os.Stderr, "about to crash")
			os.Exit(7)
			return nil
		}},
		{"panic", "baseline", func(context.Context, ServeEnv) error { panic("out of ideas") }},
		{"hang", "baseline", func(context.Context, ServeEnv) error { select {} }},
		{"liar", "baseline", serveLiar},
		{"wrong", "baseline", serveWrong},
		{"mute", "baseline", serveMute},
		{"dies", "baseline", serveDies},
		{"deaf", "baseline", serveDeaf},
		{"occupied", "baseline", serveOccupied},
	} {
		lab.Contenders = append(lab.Contenders, Contender{
			Name: c.name, Role: c.role, Doc: c.name, Durability: "none", Serve: c.serve, Version: func() string { return "1" },
		})
	}
	return lab
}

// testSource sends 8-byte records and remembers which were acknowledged.
type testSource struct {
	seed    uint64
	streams []testStream
}

type testStream struct {
	next  uint64
	body  [8]byte
	acked []uint64
}

func (s *testSource) Next(stream uint32, op *loadgen.Op) {
	w := &s.streams[stream]
	w.next++
	binary.LittleEndian.PutUint64(w.body[:], uint64(stream)<<32|w.next)
	*op = loadgen.Op{Kind: uint8(frame.KindAppend), Stream: stream, Tenant: stream, Token: w.next, Body: w.body[:]}
}

func (s *testSource) Check(stream uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	if reply == nil || reply.Status != 0 {
		return loadgen.Refused
	}
	if len(reply.Body) != 8 || binary.LittleEndian.Uint64(reply.Body) != uint64(stream)<<32|token {
		return loadgen.Wrong
	}
	w := &s.streams[stream]
	w.acked = append(w.acked, token)
	return loadgen.Right
}

// verifyTestLog compares what was acknowledged with the records in the log.
func verifyTestLog(_ context.Context, e Evidence) (reports.OracleResult, error) {
	text, err := os.ReadFile(filepath.Join(e.Dir, "log"))
	if err != nil {
		return reports.OracleResult{}, err
	}
	kept := map[uint64]bool{}
	for ; len(text) >= 8; text = text[8:] {
		kept[binary.LittleEndian.Uint64(text)] = true
	}
	var out reports.OracleResult
	source := e.Source.(*testSource)
	for stream := range source.streams {
		for _, n := range source.streams[stream].acked {
			out.Checked++
			if !kept[uint64(stream)<<32|n] {
				out.Lost++
				out.Note = fmt.Sprintf("writer %d record %d", stream, n)
			}
		}
	}
	return out, nil
}

// testServer keeps records in a file and echoes them; its fields are ways to
// misbehave.
type testServer struct {
	delay    time.Duration
	keepOnly uint64                   // keep every n-th record
	answer   func(body []byte) []byte // nil: the body itself
	mute     bool
	after    func(served int) // called for every record
}

func (s testServer) serve(ctx context.Context, env ServeEnv) error {
	log, err := os.Create(filepath.Join(env.Dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	listener, err := net.Listen(env.Network, filepath.Join(env.Dir, "socket"))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	if err := env.Ready(listener.Addr().String()); err != nil {
		return err
	}
	var mu sync.Mutex
	served := 0
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			mu.Lock()
			env.Stat("served_count", float64(served))
			mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
		go s.connection(conn, func(body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			served++
			if s.after != nil {
				s.after(served)
			}
			if s.keepOnly > 1 && uint64(served)%s.keepOnly != 0 {
				return nil
			}
			_, err := log.Write(body)
			return err
		})
	}
}

func (s testServer) connection(conn net.Conn, keep func([]byte) error) {
	defer conn.Close()
	buffer := make([]byte, 0, 64<<10)
	for {
		n, err := conn.Read(buffer[len(buffer):cap(buffer)])
		if err != nil {
			return
		}
		buffer = buffer[:len(buffer)+n]
		var out []byte
		for {
			f, size, err := frame.Parse(buffer)
			if err != nil {
				return
			}
			if size == 0 {
				break
			}
			if keep(f.Body) != nil {
				return
			}
			time.Sleep(s.delay)
			body := f.Body
			if s.answer != nil {
				body = s.answer(body)
			}
			out = frame.Append(out, frame.Frame{Kind: f.Kind | frame.KindReply, ID: f.ID, Tenant: f.Tenant, Body: body})
			buffer = append(buffer[:0], buffer[size:]...)
		}
		if s.mute {
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func serveHonest(ctx context.Context, env ServeEnv) error { return testServer{}.serve(ctx, env) }

func serveSlow(ctx context.Context, env ServeEnv) error {
	return testServer{delay: 2 * time.Millisecond}.serve(ctx, env)
}

func serveLiar(ctx context.Context, env ServeEnv) error {
	return testServer{keepOnly: 2}.serve(ctx, env)
}

func serveWrong(ctx context.Context, env ServeEnv) error {
	return testServer{answer: func([]byte) []byte { return []byte("no") }}.serve(ctx, env)
}

func serveMute(ctx context.Context, env ServeEnv) error {
	return testServer{mute: true}.serve(ctx, env)
}

func serveDies(ctx context.Context, env ServeEnv) error {
	return testServer{after: func(served int) {
		if served == 20 {
			fmt.Fprintln(os.Stderr, "last words")
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}}.serve(ctx, env)
}

func serveDeaf(ctx context.Context, env ServeEnv) error {
	signal.Ignore(syscall.SIGTERM)
	return testServer{}.serve(context.WithoutCancel(ctx), env)
}

// serveOccupied listens where somebody else does.
func serveOccupied(_ context.Context, env ServeEnv) error {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer first.Close()
	_, err = net.Listen("tcp", first.Addr().String())
	return fmt.Errorf("listen: %w", err)
}

// runInterrupted is a run in a process of its own; it says on stdout where its
// folder is and when the first trial has finished.
func runInterrupted(runs string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := testScenario("honest", "slow")
	options := Options{Lab: testLab(), Scenario: s, RunsDir: runs, Progress: func(e Event) {
		switch e.Kind {
		case EventPlan:
			fmt.Println("folder", e.Folder)
		case EventTrialFinished:
			fmt.Println("trial", e.Done)
		}
	}}
	result, err := Run(ctx, options)
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
	}
	return ExitCode(result, err)
}

// crowded lets other tests run beside.
func crowded() *Validity {
	all := 1.0
	return &Validity{OtherLoadMax: &all, StealMax: &all}
}

// testScenario drives the named contenders for short trials.
func testScenario(contenders ...string) *Scenario {
	point := Point{
		ID: "peak", Name: "peak", Sweep: map[string]float64{"writers": 8}, Arrival: "closed",
		Writers: 8, Connections: 2, InFlightMax: 16, BurstLen: 1, Trials: 5, Contenders: contenders,
		Warmup: 10 * time.Millisecond, Duration: 40 * time.Millisecond, Timeout: 2 * time.Second,
		Workload: Workload{Transport: "unix", Codec: "frame", Tenants: 8, Popularity: Popularity{Kind: "uniform"}, Record: SizeRange{Kind: "constant", MinBytes: 8, MaxBytes: 8}},
	}
	s := &Scenario{
		Name: "test", Day: 7, Title: "test", Mode: ModeQuick, Seed: 7, Workload: point.Workload,
		Points: []Point{point}, Headline: "peak", Checks: map[string]Numbers{}, Path: "test.yaml",
		Validity: crowded(),
	}
	for _, name := range contenders {
		s.Contenders = append(s.Contenders, ContenderChoice{Name: name})
	}
	hash, err := s.hash()
	if err != nil {
		panic(err)
	}
	s.Hash = hash
	return s
}
