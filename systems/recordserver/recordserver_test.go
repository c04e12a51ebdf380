package recordserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
)

// memoryStore keeps records in memory. Its hooks let a test decide what an
// append does.
type memoryStore struct {
	before func(ctx context.Context, tenant uint32, payload []byte) error

	mu      sync.Mutex
	records map[uint32][][]byte
	closed  atomic.Int32
}

func (m *memoryStore) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	if m.before != nil {
		if err := m.before(ctx, tenant, payload); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = make(map[uint32][][]byte)
	}
	m.records[tenant] = append(m.records[tenant], bytes.Clone(payload))
	return uint64(len(m.records[tenant])), nil
}

func (m *memoryStore) Read(_ context.Context, tenant uint32, seq uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq == 0 || seq > uint64(len(m.records[tenant])) {
		return nil, fmt.Errorf("tenant %d: %w", tenant, ErrUnknown)
	}
	return m.records[tenant][seq-1], nil
}

func (m *memoryStore) Close() error { m.closed.Add(1); return nil }

// batchStore adds batches to memoryStore and counts them.
type batchStore struct {
	memoryStore
	batched atomic.Int64
}

func (b *batchStore) AppendBatch(ctx context.Context, tenant uint32, payloads [][]byte, results []Result) {
	b.batched.Add(int64(len(payloads)))
	for i, p := range payloads {
		results[i].Seq, results[i].Err = b.Append(ctx, tenant, p)
	}
}

// running is a served store; stop ends it.
type running struct {
	network, address string
	stats            map[string]float64
	cancel           context.CancelFunc
	done             chan error
}

func start(t *testing.T, network string, opts Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{network: network, stats: make(map[string]float64), cancel: cancel, done: make(chan error, 1)}
	opts.Network, opts.Address = network, "127.0.0.1:0"
	if network == "unix" {
		opts.Address = filepath.Join(t.TempDir(), "s")
	}
	ready := make(chan string, 1)
	opts.Ready = func(address string) error { ready <- address; return nil }
	opts.Stat = func(name string, v float64) { r.stats[name] = v }
	go func() { r.done <- Serve(ctx, opts) }()
	select {
	case r.address = <-ready:
	case err := <-r.done:
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
}

// client speaks the frame protocol over one connection.
type client struct {
	net.Conn
	buf []byte
}

func (r *running) dial(t *testing.T) *client {
	t.Helper()
	socket, err := net.Dial(r.network, r.address)
	if err != nil {
		t.Fatal(err)
	}
	socket.SetDeadline(time.Now().Add(30 * time.Second)) // a hung test ends
	t.Cleanup(func() { socket.Close() })
	return &client{Conn: socket}
}

func (c *client) send(t *testing.T, frames ...frame.Frame) {
	t.Helper()
	var wire []byte
	for _, f := range frames {
		wire = frame.Append(wire, f)
	}
	if _, err := c.Write(wire); err != nil {
		t.Fatal(err)
	}
}

func (c *client) next() (frame.Frame, error) {
	for {
		f, n, err := frame.Parse(c.buf)
		if err != nil {
			return f, err
		}
		if n > 0 {
			c.buf = c.buf[n:]
			return f, nil
		}
		chunk := make([]byte, 64<<10)
		n, err = c.Read(chunk)
		if n == 0 && err != nil {
			return f, err
		}
		c.buf = append(bytes.Clone(c.buf), chunk[:n]...)
	}
}

func (c *client) want(t *testing.T, id uint64, status frame.Status) frame.Frame {
	t.Helper()
	f, err := c.next()
	if err != nil {
		t.Fatalf("answer to %d: %v", id, err)
	}
	if f.ID != id || f.Status != status || f.Kind&frame.KindReply == 0 {
		t.Fatalf("answer %+v, want id %d with %v", f, id, status)
	}
	return f
}

func (c *client) wantEnd(t *testing.T) {
	t.Helper()
	if f, err := c.next(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %+v, error %v, want the connection's end", f, err)
	}
}

func appendFrame(tenant uint32, id uint64, body string) frame.Frame {
	return frame.Frame{Kind: frame.KindAppend, Tenant: tenant, ID: id, Body: []byte(body)}
}

func readFrame(tenant uint32, id, seq uint64) frame.Frame {
	return frame.Frame{Kind: frame.KindRead, Tenant: tenant, ID: id, Body: binary.LittleEndian.AppendUint64(nil, seq)}
}

func TestOperations(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			store := &memoryStore{}
			r := start(t, network, Options{Store: store})
			c := r.dial(t)
			c.send(t, frame.Frame{Kind: frame.KindPing, ID: 1, Tenant: 4, Body: []byte("hello")})
			if f := c.want(t, 1, frame.StatusOK); string(f.Body) != "hello" || f.Tenant != 4 {
				t.Fatalf("ping answered %+v", f)
			}
			for seq := uint64(1); seq <= 3; seq++ {
				c.send(t, appendFrame(9, seq, fmt.Sprint("record ", seq)))
				if f := c.want(t, seq, frame.StatusOK); binary.LittleEndian.Uint64(f.Body) != seq {
					t.Fatalf("append answered %+v", f)
				}
			}
			c.send(t, readFrame(9, 10, 2))
			if f := c.want(t, 10, frame.StatusOK); string(f.Body) != "record 2" {
				t.Fatalf("read answered %+v", f)
			}
			tail := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, 2), 100)
			c.send(t, frame.Frame{Kind: frame.KindTail, Tenant: 9, ID: 11, Body: tail})
			if f := c.want(t, 11, frame.StatusOK); string(f.Body) != "\x08\x00\x00\x00record 2\x08\x00\x00\x00record 3" {
				t.Fatalf("tail answered %q", f.Body)
			}
			c.Close()
			r.stop(t)
			if store.closed.Load() != 1 || r.stats["appends_total"] != 3 || r.stats["answers_ok_total"] != 6 {
				t.Fatalf("store closed %d times, stats %v", store.closed.Load(), r.stats)
			}
		})
	}
}

func TestRefusalsKeepTheConnection(t *testing.T) {
	r := start(t, "unix", Options{Store: &memoryStore{}, TenantIDMax: 100})
	c := r.dial(t)
	tests := []struct {
		name    string
		request frame.Frame
		status  frame.Status
	}{
		{"unknown kind", frame.Frame{Kind: 99}, frame.StatusUnknown},
		{"kind zero", frame.Frame{}, frame.StatusUnknown},
		{"reply as request", frame.Frame{Kind: frame.KindAppend | frame.KindReply}, frame.StatusMalformed},
		{"status in request", frame.Frame{Kind: frame.KindPing, Status: frame.StatusOverloaded}, frame.StatusMalformed},
		{"unknown tenant", appendFrame(101, 0, "x"), frame.StatusUnknown},
		{"short read body", frame.Frame{Kind: frame.KindRead, Body: []byte("short")}, frame.StatusMalformed},
		{"short tail body", frame.Frame{Kind: frame.KindTail, Body: make([]byte, 8)}, frame.StatusMalformed},
		{"absent sequence", readFrame(1, 0, 77), frame.StatusUnknown},
		{"still alive", appendFrame(100, 0, "x"), frame.StatusOK},
	}
	for i, test := range tests {
		test.request.ID = uint64(i + 1)
		c.send(t, test.request)
		t.Log(test.name)
		c.want(t, uint64(i+1), test.status)
	}
	r.stop(t)
}

func TestStoreErrorsBecomeStatuses(t *testing.T) {
	tests := map[string]struct {
		err    error
		status frame.Status
	}{
		"large":    {ErrTooLarge, frame.StatusTooLarge},
		"full":     {ErrDiskFull, frame.StatusDiskFull},
		"enospc":   {fmt.Errorf("write: %w", syscall.ENOSPC), frame.StatusDiskFull},
		"edquot":   {fmt.Errorf("write: %w", syscall.EDQUOT), frame.StatusDiskFull},
		"overload": {ErrOverloaded, frame.StatusOverloaded},
		"rejected": {ErrRejected, frame.StatusRejected},
		"unknown":  {ErrUnknown, frame.StatusUnknown},
		"eio":      {syscall.EIO, frame.StatusUnavailable},
	}
	store := &memoryStore{before: func(_ context.Context, _ uint32, payload []byte) error {
		return fmt.Errorf("append: %w", tests[string(payload)].err)
	}}
	r := start(t, "unix", Options{Store: store})
	c := r.dial(t)
	for name, test := range tests {
		c.send(t, appendFrame(1, 5, name))
		c.want(t, 5, test.status)
	}
	r.stop(t)
}

func TestBrokenFramesEndOnlyTheirConnection(t *testing.T) {
	good := frame.Append(nil, appendFrame(1, 7, "record"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	version := bytes.Clone(good)
	version[4] = 9
	tooLarge := frame.Append(nil, appendFrame(1, 7, string(make([]byte, 5000))))
	tests := []struct {
		name   string
		wire   []byte
		status frame.Status
		id     uint64
		stat   string
	}{
		{"checksum", flipped, frame.StatusMalformed, 0, "frames_malformed_total"},
		{"version", version, frame.StatusMalformed, 0, "frames_malformed_total"},
		{"length too small", []byte{3, 0, 0, 0}, frame.StatusMalformed, 0, "frames_malformed_total"},
		{"length absurd", []byte{0xff, 0xff, 0xff, 0xff}, frame.StatusTooLarge, 0, "frames_oversized_total"},
		{"record too large", tooLarge, frame.StatusTooLarge, 7, "frames_oversized_total"},
		{"record too large, header only", tooLarge[:frame.HeaderLen], frame.StatusTooLarge, 7, "frames_oversized_total"},
		{"truncated", good[:len(good)-1], frame.StatusMalformed, 0, "frames_truncated_total"},
	}
	for _, network := range []string{"tcp", "unix"} {
		for _, test := range tests {
			t.Run(network+"/"+test.name, func(t *testing.T) {
				r := start(t, network, Options{Store: &memoryStore{}, RecordLenMax: 4096})
				other := r.dial(t)
				c := r.dial(t)
				if _, err := c.Write(append(bytes.Clone(good), test.wire...)); err != nil {
					t.Fatal(err)
				}
				if test.stat == "frames_truncated_total" {
					c.Conn.(interface{ CloseWrite() error }).CloseWrite()
				}
				// The append and the refusal are answered in either order.
				statuses := map[frame.Status]uint64{}
				for range 2 {
					f, err := c.next()
					if err != nil {
						t.Fatal(err)
					}
					statuses[f.Status] = f.ID
				}
				if id, ok := statuses[test.status]; !ok || id != test.id || statuses[frame.StatusOK] != 7 {
					t.Fatalf("answers %v", statuses)
				}
				c.wantEnd(t)
				other.send(t, appendFrame(1, 8, "another"))
				other.want(t, 8, frame.StatusOK)
				r.stop(t)
				if r.stats[test.stat] != 1 {
					t.Fatalf("stats %v", r.stats)
				}
			})
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, opts := range map[string]Options{
		"no store":      {Network: "tcp"},
		"network":       {Network: "udp", Store: &memoryStore{}},
		"record length": {Network: "tcp", Store: &memoryStore{}, RecordLenMax: frame.BodyLenMax + 1},
		"address":       {Network: "tcp", Address: "no such host:x", Store: &memoryStore{}},
		"folder":        {Network: "unix", Address: "/no/such/folder/s", Store: &memoryStore{}},
	} {
		if err := Serve(context.Background(), opts); err == nil {
			t.Errorf("%s: no error", name)
		}
		if store, ok := opts.Store.(*memoryStore); ok && store.closed.Load() != 1 {
			t.Errorf("%s: store closed %d times", name, store.closed.Load())
		}
	}
}

func TestOccupiedAndStaleAddresses(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		r := start(t, network, Options{Store: &memoryStore{}})
		err := Serve(context.Background(), Options{Network: network, Address: r.address, Store: &memoryStore{}})
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: error %v, want %v", network, err, syscall.EADDRINUSE)
		}
		r.dial(t) // the first one still serves
		r.stop(t)
	}
	stale := filepath.Join(t.TempDir(), "stale")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	ctx, cancel := context.WithCancel(context.Background())
	err = Serve(ctx, Options{Network: "unix", Address: stale, Store: &memoryStore{}, Ready: func(string) error { cancel(); return nil }})
	if err != nil {
		t.Errorf("stale socket: %v", err)
	}
}
