package recordserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
)

// A slow tenant must not hold up another one on the same connection, and the
// requests of one tenant must keep their order.
func TestTenantsAreOrderedInsideAndIndependentOutside(t *testing.T) {
	release := make(chan struct{})
	store := &memoryStore{before: func(_ context.Context, tenant uint32, _ []byte) error {
		if tenant == 1 {
			<-release
		}
		return nil
	}}
	r := start(t, "unix", Options{Store: store})
	c := r.dial(t)
	for id := range uint64(50) {
		c.send(t, appendFrame(1, id, fmt.Sprint(id)))
	}
	c.send(t, appendFrame(2, 1000, "quick"))
	c.want(t, 1000, frame.StatusOK)
	close(release)
	for id := range uint64(50) {
		if f := c.want(t, id, frame.StatusOK); binary.LittleEndian.Uint64(f.Body) != id+1 {
			t.Fatalf("record %d got sequence %d", id, binary.LittleEndian.Uint64(f.Body))
		}
	}
	r.stop(t)
}

func TestFullTenantQueueIsShedAndOthersAreServed(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 100)
	store := &memoryStore{before: func(_ context.Context, tenant uint32, _ []byte) error {
		if tenant == 1 {
			entered <- struct{}{}
			<-release
		}
		return nil
	}}
	r := start(t, "unix", Options{Store: store, TenantQueueMax: 4})
	c := r.dial(t)
	c.send(t, appendFrame(1, 0, "under way"))
	<-entered
	for id := uint64(1); id <= 10; id++ {
		c.send(t, appendFrame(1, id, "queued"))
	}
	for id := uint64(5); id <= 10; id++ {
		c.want(t, id, frame.StatusOverloaded)
	}
	c.send(t, appendFrame(2, 99, "other"))
	c.want(t, 99, frame.StatusOK)
	close(release)
	for id := range uint64(5) {
		c.want(t, id, frame.StatusOK)
	}
	r.stop(t)
}

func TestBatchesTakeWhatIsQueued(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	store := &batchStore{}
	store.before = func(_ context.Context, _ uint32, payload []byte) error {
		switch string(payload) {
		case "first":
			close(entered)
			<-release
		case "bad":
			return ErrRejected
		}
		return nil
	}
	r := start(t, "unix", Options{Store: store, BatchMax: 8})
	c := r.dial(t)
	c.send(t, appendFrame(1, 0, "first"))
	<-entered
	for id := uint64(1); id <= 20; id++ {
		body := fmt.Sprint("record ", id)
		if id == 5 {
			body = "bad"
		}
		c.send(t, appendFrame(1, id, body))
	}
	c.send(t, readFrame(1, 21, 3), frame.Frame{Kind: frame.KindPing, ID: 22})
	c.want(t, 22, frame.StatusOK) // all before it is queued
	close(release)
	for id := range uint64(21) {
		status := frame.StatusOK
		if id == 5 {
			status = frame.StatusRejected
		}
		c.want(t, id, status)
	}
	if f := c.want(t, 21, frame.StatusOK); string(f.Body) != "record 2" {
		t.Fatalf("read %q", f.Body)
	}
	if got := store.batched.Load(); got != 20 {
		t.Fatalf("%d records came in batches, want 20", got)
	}
	r.stop(t)
}

func TestDrainFinishesWhatIsUnderWay(t *testing.T) {
	entered := make(chan struct{})
	release := make(chan struct{})
	store := &memoryStore{before: func(context.Context, uint32, []byte) error {
		close(entered)
		<-release
		return nil
	}}
	r := start(t, "tcp", Options{Store: store})
	c := r.dial(t)
	c.send(t, appendFrame(1, 3, "late"))
	<-entered
	r.cancel()
	close(release)
	c.want(t, 3, frame.StatusOK)
	c.wantEnd(t)
	r.stop(t)
	if store.closed.Load() != 1 {
		t.Fatal("store not closed")
	}
}

func TestDrainCancelsAStuckStore(t *testing.T) {
	entered := make(chan struct{})
	store := &memoryStore{before: func(ctx context.Context, _ uint32, _ []byte) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	r := start(t, "unix", Options{Store: store, DrainTimeout: 20 * time.Millisecond})
	c := r.dial(t)
	c.send(t, appendFrame(1, 3, "stuck"))
	<-entered
	r.cancel()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "cancelled") {
		t.Fatalf("error %v", err)
	}
}

func TestStuckClientsAreDropped(t *testing.T) {
	t.Run("half a frame", func(t *testing.T) {
		r := start(t, "unix", Options{Store: &memoryStore{}, FrameTimeout: 20 * time.Millisecond})
		c := r.dial(t)
		c.Write(frame.Append(nil, appendFrame(1, 1, "x"))[:9])
		c.wantEnd(t)
		r.stop(t)
		if r.stats["clients_stuck_total"] != 1 {
			t.Fatalf("stats %v", r.stats)
		}
	})
	t.Run("reads nothing", func(t *testing.T) {
		r := start(t, "unix", Options{Store: &memoryStore{}, WriteTimeout: 50 * time.Millisecond})
		c := r.dial(t)
		ping := frame.Append(nil, frame.Frame{Kind: frame.KindPing, Body: make([]byte, 100<<10)})
		for {
			if _, err := c.Write(ping); err != nil {
				break // dropped; the deadline of dial would fail the count below
			}
		}
		r.stop(t)
		if r.stats["clients_stuck_total"] != 1 {
			t.Fatalf("stats %v", r.stats)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	r := start(t, "unix", Options{Store: &memoryStore{}, ConnectionsMax: 2})
	for range 2 {
		c := r.dial(t)
		c.send(t, frame.Frame{Kind: frame.KindPing, ID: 1})
		c.want(t, 1, frame.StatusOK)
	}
	r.dial(t).wantEnd(t)
	r.stop(t)
	if r.stats["connections_refused_total"] != 1 {
		t.Fatalf("stats %v", r.stats)
	}
}

// Hammer: many well-behaved clients check every answer while hostile ones send
// damaged streams and leave; afterwards no goroutine is left.
func TestHammer(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, store := range []Store{&memoryStore{}, &batchStore{}} {
		r := start(t, "unix", Options{Store: store, RecordLenMax: 8 << 10, InFlightBytesMax: 32 << 10})
		var wg sync.WaitGroup
		for worker := range uint32(8) {
			good := r.dial(t)
			wg.Go(func() { hammerGood(t, good, worker) })
			wg.Go(func() { hammerHostile(r, uint64(worker)) })
		}
		wg.Wait()
		r.stop(t)
	}
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// hammerGood appends to tenants of its own, pipelined, and reads back.
func hammerGood(t *testing.T, c *client, worker uint32) {
	rng := rand.New(rand.NewPCG(uint64(worker), 1))
	next := map[uint32]uint64{}
	for range 30 {
		want := map[uint64]uint64{}
		var wire []byte
		for id := range uint64(40) {
			tenant := worker*10 + rng.Uint32N(4)
			next[tenant]++
			want[id] = next[tenant]
			body := bytes.Repeat([]byte{byte(next[tenant])}, rng.IntN(2000))
			wire = frame.Append(wire, frame.Frame{Kind: frame.KindAppend, Tenant: tenant, ID: id, Body: body})
		}
		if _, err := c.Write(wire); err != nil {
			t.Errorf("worker %d: %v", worker, err)
			return
		}
		for range want {
			f, err := c.next()
			if err != nil || f.Status != frame.StatusOK || binary.LittleEndian.Uint64(f.Body) != want[f.ID] {
				t.Errorf("worker %d: answer %+v, want sequence %d, error %v", worker, f, want[f.ID], err)
				return
			}
		}
	}
}

func hammerHostile(r *running, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 40 {
		socket, err := net.Dial(r.network, r.address)
		if err != nil {
			return
		}
		wire := make([]byte, rng.IntN(300))
		for i := range wire {
			wire[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			wire = frame.Append(nil, frame.Frame{Kind: frame.Kind(rng.IntN(8)), Tenant: 1 << 30, Body: wire})
			wire[rng.IntN(len(wire))] ^= byte(1 << rng.IntN(8))
			wire = wire[:rng.IntN(len(wire))+1]
		}
		socket.Write(wire)
		socket.Close()
	}
}

// FuzzStream feeds arbitrary bytes to a connection: whatever comes, it ends, and
// every answer is a well-formed frame.
func FuzzStream(f *testing.F) {
	f.Add(frame.Append(nil, appendFrame(1, 2, "record")))
	f.Add(frame.Append(frame.Append(nil, frame.Frame{Kind: frame.KindPing}), readFrame(1, 1, 1)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{20, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, stream []byte) {
		opts, err := Options{Network: "tcp", Store: &memoryStore{}, RecordLenMax: 1 << 10}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		work, cancel := context.WithCancel(context.Background())
		defer cancel()
		near, far := net.Pipe()
		c := newConn(&server{opts: opts, work: work, cancelWork: cancel}, far)
		ended := make(chan struct{})
		go func() { c.run(); close(ended) }()
		go func() {
			near.Write(stream)
			// A pipe has no half-close: let what was sent be served, then leave.
			near.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		}()
		answers := &client{Conn: near}
		for {
			answer, err := answers.next()
			if err != nil {
				break
			}
			if answer.Kind&frame.KindReply == 0 {
				t.Fatalf("answer %+v", answer)
			}
		}
		near.Close()
		<-ended
	})
}
