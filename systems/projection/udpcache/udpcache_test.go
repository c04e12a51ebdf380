package udpcache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// testSource rebuilds values that say what they are.
type testSource struct{ rebuilds atomic.Uint64 }

func (s *testSource) Rebuild(_ context.Context, tenant, number uint32) (projection.Result, error) {
	s.rebuilds.Add(1)
	switch {
	case tenant == 40404:
		return projection.Result{}, fmt.Errorf("no: %w", projection.ErrTenant)
	case tenant == 50505:
		return projection.Result{}, errors.New("broken")
	}
	return projection.Result{Version: tenant, Seq: uint64(number), Data: value(tenant, number)}, nil
}

// value is of 0 to 4,096 bytes.
func value(tenant, number uint32) []byte {
	data := make([]byte, (tenant*31+number*1000)%4097)
	for i := range data {
		data[i] = byte(tenant + number + uint32(i))
	}
	return data
}

func startServer(t testing.TB, source Source, o Options) (*Server, *net.UDPConn) {
	t.Helper()
	s, err := Listen("udp", "127.0.0.1:0", source, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, dial(t, s)
}

func dial(t testing.TB, s *Server) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, s.Addr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func get(tenant, number uint32, id uint64, flags uint8) []byte {
	body := binary.LittleEndian.AppendUint32(nil, number)
	return frame.Append(nil, frame.Frame{Kind: frame.KindGet, Flags: flags, Tenant: tenant, ID: id, Body: body})
}

// ask sends a request and returns its answer.
func ask(t testing.TB, conn *net.UDPConn, request []byte) frame.Frame {
	t.Helper()
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	return hear(t, conn)
}

func hear(t testing.TB, conn *net.UDPConn) frame.Frame {
	t.Helper()
	buf := make([]byte, 8192)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	f, err := frame.ParseDatagram(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func checkAnswer(t testing.TB, f frame.Frame, tenant, number uint32, id uint64) {
	t.Helper()
	if f.Kind != frame.KindGet|frame.KindReply || f.Status != frame.StatusOK || f.Tenant != tenant || f.ID != id || len(f.Body) < bodyHeaderLen {
		t.Fatalf("answer %+v", f)
	}
	le := binary.LittleEndian
	if le.Uint64(f.Body) != uint64(number) || le.Uint32(f.Body[8:]) != tenant || string(f.Body[12:]) != string(value(tenant, number)) {
		t.Fatalf("tenant %d projection %d: wrong body of %d bytes", tenant, number, len(f.Body))
	}
}

func TestAnswers(t *testing.T) {
	source := &testSource{}
	s, conn := startServer(t, source, Options{})
	for round := range uint64(2) {
		for tenant := range uint32(40) {
			for _, flags := range []uint8{0, frame.FlagUnchecked} {
				id := round<<32 | uint64(tenant)
				f := ask(t, conn, get(tenant, tenant%8, id, flags))
				if checkAnswer(t, f, tenant, tenant%8, id); f.Flags != flags {
					t.Fatalf("flags %d", f.Flags)
				}
			}
		}
	}
	if hits, misses := s.Stats().Hits.Load(), s.Stats().Misses.Load(); hits != 120 || misses != 40 || source.rebuilds.Load() != 40 {
		t.Fatalf("%d hits, %d misses, %d rebuilds", hits, misses, source.rebuilds.Load())
	}
	s.Cache().Drop(7, 8)
	checkAnswer(t, ask(t, conn, get(7, 7, 1, 0)), 7, 7, 1)
	if source.rebuilds.Load() != 41 {
		t.Fatal("a dropped projection was served")
	}
}

func TestBadRequests(t *testing.T) {
	s, conn := startServer(t, &testSource{}, Options{})
	for name, bad := range map[string][]byte{
		"empty":     {},
		"short":     {1, 2, 3},
		"truncated": get(1, 1, 1, 0)[:20],
		"trailing":  append(get(1, 1, 1, 0), 0),
		"oversized": make([]byte, 60_000),
		"too long":  frame.Append(nil, frame.Frame{Kind: frame.KindGet, Body: make([]byte, 9000)}),
	} {
		before := s.Stats().Malformed.Load()
		if _, err := conn.Write(bad); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); s.Stats().Malformed.Load() != before+1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not counted", name)
			}
		}
	}
	for name, test := range map[string]struct {
		request frame.Frame
		status  frame.Status
	}{
		"other kind":     {frame.Frame{Kind: frame.KindRead, Body: make([]byte, 8)}, frame.StatusMalformed},
		"no projection":  {frame.Frame{Kind: frame.KindGet, Body: make([]byte, 3)}, frame.StatusMalformed},
		"unknown tenant": {frame.Frame{Kind: frame.KindGet, Tenant: 40404, Body: make([]byte, 4)}, frame.StatusUnknown},
		"broken source":  {frame.Frame{Kind: frame.KindGet, Tenant: 50505, Body: make([]byte, 4)}, frame.StatusUnavailable},
	} {
		if f := ask(t, conn, frame.Append(nil, test.request)); f.Status != test.status {
			t.Errorf("%s: status %v, want %v", name, f.Status, test.status)
		}
	}
	checkAnswer(t, ask(t, conn, get(3, 3, 9, 0)), 3, 3, 9)
}

// TestHammer asks over several sockets while entries are evicted and replaced.
func TestHammer(t *testing.T) {
	s, _ := startServer(t, &testSource{}, Options{Sockets: 2, Batch: 8, EntriesMax: 2 * shards})
	t.Run("clients", func(t *testing.T) {
		for client := range uint32(4) {
			t.Run(fmt.Sprint(client), func(t *testing.T) {
				t.Parallel()
				conn := dial(t, s)
				for n := range uint32(1500) {
					tenant, number := (client*7+n)%1000, n%8
					checkAnswer(t, ask(t, conn, get(tenant, number, uint64(n), frame.FlagUnchecked)), tenant, number, uint64(n))
				}
			})
		}
	})
	if s.Cache().Len() > 2*shards || s.Cache().Evicted() == 0 {
		t.Fatalf("%d entries, %d evicted", s.Cache().Len(), s.Cache().Evicted())
	}
}

func TestOverload(t *testing.T) {
	release := make(chan struct{})
	s, conn := startServer(t, blocked{release}, Options{Rebuilders: 1, MissesMax: 1})
	for n := range uint32(5) {
		if _, err := conn.Write(get(n, 1, uint64(n), 0)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // one is rebuilt, one waits, one may be shed before the first is taken
		if f := hear(t, conn); f.Status != frame.StatusOverloaded {
			t.Fatalf("status %v", f.Status)
		}
	}
	close(release)
	if n := s.Stats().Overloaded.Load(); n < 2 {
		t.Fatalf("%d counted", n)
	}
}

type blocked struct{ release chan struct{} }

func (b blocked) Rebuild(context.Context, uint32, uint32) (projection.Result, error) {
	<-b.release
	return projection.Result{}, nil
}

func TestPutKeepsTheNewer(t *testing.T) {
	c := NewCache(1 << 10)
	body := func() (version uint32, seq uint64) {
		b, _ := c.Append(nil, 1, 1)
		return binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint64(b)
	}
	for _, step := range []struct {
		put     projection.Result
		version uint32
		seq     uint64
	}{
		{projection.Result{Version: 1, Seq: 5}, 1, 5},
		{projection.Result{Version: 1, Seq: 4}, 1, 5},
		{projection.Result{Version: 1, Seq: 6}, 1, 6},
		{projection.Result{Version: 2, Seq: 3}, 2, 3}, // a rollback's
		{projection.Result{Version: 1, Seq: 9}, 2, 3},
	} {
		c.Put(1, 1, step.put)
		if version, seq := body(); version != step.version || seq != step.seq {
			t.Fatalf("after %+v: version %d sequence %d", step.put, version, seq)
		}
	}
}

// TestHitsAllocateNothing guards the hot path but for the system calls.
func TestHitsAllocateNothing(t *testing.T) {
	s, err := Listen("udp", "127.0.0.1:0", &testSource{}, Options{Batch: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	b, err := newBatch(s.conns[0], 4, requestLenMax)
	if err != nil {
		t.Fatal(err)
	}
	request := get(1, 4, 1, 0)
	b.in[0].length = uint32(copy(b.received[0], request))
	s.cache.Put(1, 4, projection.Result{Data: value(1, 4)})
	allocations := testing.AllocsPerRun(100, func() {
		b.from = b.from[:0]
		if !s.handle(b, 0) {
			t.Fatal("not a hit")
		}
	})
	if allocations != 0 {
		t.Fatalf("%v allocations a hit", allocations)
	}
}

func BenchmarkHit(b *testing.B) {
	s, conn := startServer(b, &testSource{}, Options{})
	request := get(1, 1, 1, frame.FlagUnchecked)
	checkAnswer(b, ask(b, conn, request), 1, 1, 1)
	buf := make([]byte, 8192)
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
	_ = s
}
