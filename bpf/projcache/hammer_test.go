package projcache

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// uniformValue is one word over and over, which a rehearsal can tell from a torn one.
func uniformValue(version uint64, length int) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, version), length/8)
}

// A rehearsal sees a torn answer: one that is planted.
func TestRehearsalSeesTornAnswers(t *testing.T) {
	c := openCache(t, Options{Slots: 16, Tenants: 4})
	if err := c.SetSnapshot(1, 1); err != nil {
		t.Fatal(err)
	}
	whole, broken := uniformValue(5, 264), uniformValue(5, 264)
	broken[200]++
	for i, value := range [][]byte{whole, broken} {
		if err := c.Put(Key{Tenant: 1, Projection: uint32(i), Snapshot: 1}, 1, value); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Rehearse(service, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, repeat := range []int{5, 7} {
		if _, err := r.Run(plain(1, uint32(i)).packet(), repeat); err != nil {
			t.Fatal(err)
		}
	}
	if counts, err := c.Counts(); err != nil || counts.Torn != 7 || counts.Packets[Answered] != 12 {
		t.Errorf("%+v, error %v", counts, err)
	}
}

// Readers on all CPUs, values of all sizes written meanwhile into few slots, so that
// they are used again at once: no answer is torn. The lab does the same at length.
func TestHammer(t *testing.T) {
	c := openCache(t, Options{Slots: 16, Tenants: 4})
	if err := c.SetSnapshot(1, 1); err != nil {
		t.Fatal(err)
	}
	put := func(i uint64) {
		value := uniformValue(i, 8*int(1+i*37%400))
		if err := c.Put(Key{Tenant: 1, Projection: uint32(i % 3), Snapshot: 1}, i, value); err != nil {
			t.Error(err)
		}
	}
	for i := range uint64(3) {
		put(i)
	}
	var readers sync.WaitGroup
	var reading atomic.Int32
	for cpu := range runtime.NumCPU() {
		reading.Add(1)
		readers.Go(func() {
			defer reading.Add(-1)
			hammerReads(t, c, uint32(cpu%3))
		})
	}
	puts := uint64(3)
	for ; reading.Load() > 0; puts++ {
		put(puts)
	}
	readers.Wait()
	counts, err := c.Counts()
	if err != nil {
		t.Fatal(err)
	}
	if counts.Torn > 0 || counts.Packets[Answered] == 0 {
		t.Errorf("%d puts: %+v", puts, counts)
	}
	t.Logf("%d puts, %d answers, %d reads repeated", puts, counts.Packets[Answered], counts.ReadAgain)
}

func hammerReads(t *testing.T, c *Cache, projection uint32) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := c.Rehearse(service, true)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	request := plain(1, projection)
	request.body = 3300
	for range 40 {
		if _, err := r.Run(request.packet(), 5000); err != nil {
			t.Error(err)
			return
		}
	}
}
