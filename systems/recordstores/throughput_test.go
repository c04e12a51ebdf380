// Package recordstores_test compares the stores behind the shared network front.
package recordstores_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/components/logframe"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/bboltstore"
	"github.com/nexuscore-labs/nexus/systems/recordstores/etcdwal"
	"github.com/nexuscore-labs/nexus/systems/recordstores/fsyncappend"
	"github.com/nexuscore-labs/nexus/systems/recordstores/jetstream"
	"github.com/nexuscore-labs/nexus/systems/recordstores/pebblestore"
	"github.com/nexuscore-labs/nexus/systems/recordstores/seglogstore"
	"github.com/nexuscore-labs/nexus/systems/recordstores/tenantfiles"
	"github.com/nexuscore-labs/nexus/systems/recordstores/wasmstore"
)

type store struct {
	name string
	open func(dir string) (recordserver.Store, error)
	scan func(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error
}

var stores = []store{
	{"fsyncappend", func(dir string) (recordserver.Store, error) { return fsyncappend.Open(dir) }, fsyncappend.Scan},
	{"tenantfiles", func(dir string) (recordserver.Store, error) { return tenantfiles.Open(dir) }, tenantfiles.Scan},
	{"pebblestore", func(dir string) (recordserver.Store, error) { return pebblestore.Open(dir) }, pebblestore.Scan},
	{"bboltstore", func(dir string) (recordserver.Store, error) { return bboltstore.Open(dir) }, bboltstore.Scan},
	{"jetstream", func(dir string) (recordserver.Store, error) { return jetstream.Open(dir) }, jetstream.Scan},
	{"etcdwal", func(dir string) (recordserver.Store, error) { return etcdwal.Open(dir) }, etcdwal.Scan},
	{"seglogstore", func(dir string) (recordserver.Store, error) { return seglogstore.Open(dir) }, seglogstore.Scan},
	{"wasmstore", func(dir string) (recordserver.Store, error) { return wasmstore.Open(dir) }, wasmstore.Scan},
	{"wasmstore-native", func(dir string) (recordserver.Store, error) {
		return wasmstore.OpenWith(dir, wasmstore.Options{
			Framer: func(tenant uint32, p logframe.Policy, s logframe.State) (logframe.Framer, error) {
				return logframe.NewNative(tenant, p, s)
			}})
	}, wasmstore.Scan},
}

const (
	connections  = 8
	streams      = 256 // each a tenant with one request outstanding
	recordLen    = 256
	trialTimeout = 60 * time.Second
)

// drive appends total records and returns how long it took.
func drive(address string, total int64) (time.Duration, error) {
	left := atomic.Int64{}
	left.Store(total)
	errs := make([]error, connections)
	began := time.Now()
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() { errs[c] = driveConnection(address, c, &left) })
	}
	wg.Wait()
	elapsed := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return elapsed, nil
}

// driveConnection keeps one request of each of its streams outstanding while
// any are left to send, and checks every sequence.
func driveConnection(address string, c int, left *atomic.Int64) error {
	socket, err := net.Dial("unix", address)
	if err != nil {
		return err
	}
	defer socket.Close()
	socket.SetDeadline(time.Now().Add(trialTimeout))
	record := make([]byte, recordLen)
	next := make(map[uint32]uint64)
	var out []byte
	outstanding := 0
	send := func(tenant uint32) {
		if left.Add(-1) >= 0 {
			outstanding++
			out = frame.Append(out, frame.Frame{Kind: frame.KindAppend, Tenant: tenant, ID: uint64(tenant), Body: record})
		}
	}
	for stream := range streams / connections {
		send(uint32(stream*connections + c))
	}
	in, have := make([]byte, 64<<10), 0
	for {
		if _, err := socket.Write(out); err != nil {
			return err
		}
		out = out[:0]
		if outstanding == 0 {
			return nil
		}
		n, err := socket.Read(in[have:])
		if err != nil {
			return err
		}
		have += n
		at := 0
		for {
			f, n, err := frame.Parse(in[at:have])
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			at += n
			outstanding--
			next[f.Tenant]++
			if f.Status != frame.StatusOK || binary.LittleEndian.Uint64(f.Body) != next[f.Tenant] {
				return fmt.Errorf("answer %+v, want sequence %d", f, next[f.Tenant])
			}
			send(f.Tenant)
		}
		have = copy(in, in[at:have])
	}
}

// measure serves the store from a fresh folder, appends total records, and has
// the oracle count them.
func measure(s store, total int64) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "recordstores")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return 0, err
	}
	opened, err := s.open(data)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- recordserver.Serve(ctx, recordserver.Options{
			Network: "unix", Address: filepath.Join(dir, "s"), Store: opened,
			Ready: func(address string) error { ready <- address; return nil },
		})
	}()
	var elapsed time.Duration
	select {
	case address := <-ready:
		elapsed, err = drive(address, total)
		cancel()
		if served := <-done; err == nil {
			err = served
		}
	case err = <-done:
	}
	if err != nil {
		return 0, err
	}
	stored := int64(0)
	if err := s.scan(data, func(uint32, uint64, []byte) error { stored++; return nil }); err != nil {
		return 0, err
	}
	if stored != total {
		return 0, fmt.Errorf("%d records stored of %d acknowledged", stored, total)
	}
	return elapsed, nil
}

// TestEveryStoreBehindTheServer is the benchmark, small.
func TestEveryStoreBehindTheServer(t *testing.T) {
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			if _, err := measure(s, 600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// BenchmarkAppend256Streams is a round of every store per iteration, in turn, so
// that what else the machine does falls on all of them; it reports the medians of
// the rounds' rates and of their ratios to the baseline. A round gives each store
// about half a second, at the rate that a short trial before it found.
func BenchmarkAppend256Streams(b *testing.B) {
	rates := make([][]float64, len(stores))
	ratios := make([][]float64, len(stores))
	cpus := make([][]float64, len(stores))
	for range b.N {
		for i, s := range stores {
			size := int64(1000)
			elapsed, err := measure(s, size)
			if err != nil {
				b.Fatalf("%s: %v", s.name, err)
			}
			size = max(size, int64(float64(size)/elapsed.Seconds()/2))
			before := cpuTime(b)
			if elapsed, err = measure(s, size); err != nil {
				b.Fatalf("%s: %v", s.name, err)
			}
			cpus[i] = append(cpus[i], float64(cpuTime(b)-before)/float64(size))
			rates[i] = append(rates[i], float64(size)/elapsed.Seconds())
		}
		for i := range stores {
			last := len(rates[i]) - 1
			ratios[i] = append(ratios[i], rates[i][last]/rates[0][last])
		}
	}
	for i, s := range stores {
		b.ReportMetric(median(rates[i]), s.name+"/s")
		b.ReportMetric(median(ratios[i]), s.name+"/"+stores[0].name)
		b.ReportMetric(median(cpus[i]), s.name+"-cpu-ns/record")
	}
}

// cpuTime is the process's, of all threads: it depends less than elapsed time on
// what else runs. Client, opening and the oracle's scan are in it for every store.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
