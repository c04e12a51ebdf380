package day10

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/bpf/lrucache"
	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

const (
	// tornKeys are few, so that what is read is what is written.
	tornKeys = 3
	// tornSlots are the fewest that a cache has: they are used again at once.
	tornSlots = 16
	// tornLenMax is the longest value, in bytes: what a test packet has room for.
	tornLenMax = 3000
	// readsAtOnce are run by one system call.
	readsAtOnce = 20_000
	portOfTests = 7010
)

// hammered is a cache under both ends of the hammer.
type hammered struct {
	put   func(key uint32, version uint64, value []byte) error
	open  func() (get func(key uint32, times int) error, done func() error, err error) // for one reader
	count func() (read, torn uint64, err error)
}

// checkTorn reads as often as asked for, on all CPUs, while one writer goes on
// replacing values of all sizes.
func checkTorn(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	reads := uint64(env.Params["reads"])
	subject, closeSubject, err := subjectHammered()
	if err != nil {
		return found, err
	}
	defer closeSubject()
	read, torn, err := hammer(ctx, subject, reads)
	if err != nil {
		return found, fmt.Errorf("hammer the cache: %w", err)
	}
	env.Progress(1, 2)
	lesson, err := lrucache.Open(tornSlots)
	if err != nil {
		return found, err
	}
	defer lesson.Close()
	readLesson, tornLesson, err := hammer(ctx, lessonHammered(lesson), uint64(env.Params["reads_lesson"]))
	if err != nil {
		return found, fmt.Errorf("hammer the lesson's map: %w", err)
	}
	env.Progress(2, 2)
	found.Metrics = []reports.Metric{
		metric("torn_reads", "count", float64(torn), "answers that held parts of two values, of %d that were looked at", read),
		metric("hammered_reads", "count", float64(read), "answers of the program that were looked at while values changed"),
		metric("torn_reads_lesson", "count", float64(tornLesson), "the same of the lesson's LRU map, updated by bpf_map_update_elem, of %d", readLesson),
	}
	found.Oracle = reports.OracleResult{Checked: read, Wrong: torn}
	evidence := fmt.Sprintf("%d of %d reads of the lesson's map held parts of two values while it was updated; of this cache, %d of %d", tornLesson, readLesson, torn, read)
	found.Claims = []reports.ClaimResult{decide("lru-update-is-atomic", tornLesson == 0, "%s", evidence)}
	return found, nil
}

func subjectHammered() (h hammered, done func() error, err error) {
	cache, err := projcache.Open(projcache.Options{Slots: tornSlots, Tenants: 2})
	if err != nil {
		return h, nil, err
	}
	if err := cache.SetSnapshot(1, 1); err != nil {
		return h, nil, err
	}
	service := projcache.Service{Port: portOfTests}
	return hammered{
		put: func(key uint32, version uint64, value []byte) error {
			return cache.Put(projcache.Key{Tenant: 1, Projection: key, Snapshot: 1}, version, value)
		},
		open: func() (func(uint32, int) error, func() error, error) {
			r, err := cache.Rehearse(service, true)
			if err != nil {
				return nil, nil, err
			}
			return func(key uint32, times int) error {
				_, err := r.Run(getPacket(1, key, tornLenMax+bodyHeaderLen), times)
				return err
			}, r.Close, nil
		},
		count: func() (uint64, uint64, error) {
			counts, err := cache.Counts()
			return counts.Packets[projcache.Answered], counts.Torn, err
		},
	}, cache.Close, nil
}

func lessonHammered(cache *lrucache.Cache) hammered {
	return hammered{
		put: func(key uint32, version uint64, value []byte) error {
			return cache.Put(lrucache.Key{Tenant: 1, Projection: key}, version, value)
		},
		open: func() (func(uint32, int) error, func() error, error) {
			get := func(key uint32, times int) error { return cache.Get(lrucache.Key{Tenant: 1, Projection: key}, times) }
			return get, func() error { return nil }, nil
		},
		count: func() (uint64, uint64, error) {
			counts, err := cache.Counts()
			return counts.Answered, counts.Torn, err
		},
	}
}

// hammer returns how many answers were looked at, and how many were torn.
func hammer(ctx context.Context, h hammered, reads uint64) (read, torn uint64, err error) {
	version := uint64(0)
	write := func() error {
		version++
		value := bytes.Repeat(binary.LittleEndian.AppendUint64(nil, version), 1+int(version*37%(tornLenMax/8)))
		return h.put(uint32(version%tornKeys), version, value)
	}
	for range tornKeys {
		if err := write(); err != nil {
			return 0, 0, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	readers := runtime.NumCPU()
	errs := make([]error, readers)
	var reading sync.WaitGroup
	var active atomic.Int32
	active.Store(int32(readers))
	for i := range errs {
		reading.Go(func() {
			defer active.Add(-1)
			errs[i] = readOnCPU(ctx, h, i, reads/uint64(readers))
		})
	}
	var writeErr error
	for active.Load() > 0 && writeErr == nil {
		writeErr = write()
	}
	cancel()
	reading.Wait()
	for _, e := range append(errs, writeErr) {
		if e != nil {
			return 0, 0, e
		}
	}
	return h.count()
}

// readOnCPU reads in batches, each of one key.
func readOnCPU(ctx context.Context, h hammered, cpu int, reads uint64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	get, done, err := h.open()
	if err != nil {
		return err
	}
	defer done()
	for n := uint64(0); n < reads && ctx.Err() == nil; n += readsAtOnce {
		if err := get(uint32(cpu)%tornKeys, int(min(readsAtOnce, reads-n))); err != nil {
			return err
		}
		cpu++
	}
	return nil
}

const bodyHeaderLen = projcache.BodyHeaderLen

// testAddresses are of the packets that no wire carries.
var testAddresses = [2]netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.1")}
