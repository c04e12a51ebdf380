// Random changes against the dumb oracle, across restarts and snapshots; then
// the same on a disk that fails or loses power at every operation.
package vectorstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/seglog/faultdisk"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

const testName = "points"

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRandomChangesAgainstOracle(t *testing.T) {
	for i, metric := range []vectors.Metric{vectors.Cosine, vectors.Dot, vectors.Euclid} {
		for _, int8 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/int8=%v", metric, int8), func(t *testing.T) {
				t.Parallel()
				randomChanges(t, uint64(i)*2+1, CollectionConfig{Dim: 12, Metric: metric, Int8: int8, EfConstruction: 64, IndexFromBytes: 40 * 12 * 4})
			})
		}
	}
}

func randomChanges(t *testing.T, seed uint64, config CollectionConfig) {
	dir, o := t.TempDir(), Options{SegmentBytes: 256 << 10, SnapshotBytes: 20 << 10}
	w := newWorld(seed, config.Metric, config.Dim, 150)
	s := openStore(t, dir, o)
	mustDo(t, s.CreateCollection(ctx, testName, config))
	mustDo(t, s.CreateFieldIndex(ctx, testName, "tenant", IndexKeyword))
	recalls, searches := 0.0, 0
	for step := range 400 {
		if err, fails := w.change(s); (err != nil) != fails {
			t.Fatalf("step %d: error %v, want one: %v", step, err, fails)
		}
		q := Search{Vector: w.vector(), Limit: 1 + w.rng.IntN(10), Offset: w.rng.IntN(3), Exact: w.rng.IntN(2) == 0}
		if w.rng.IntN(2) == 0 {
			q.Filter = w.filter(0)
		}
		recalls += w.oracle.checkSearch(t, s, testName, q)
		searches++
		if n, err := s.Count(testName, q.Filter); err != nil || n != len(w.oracle.ids(q.Filter)) {
			t.Fatalf("step %d: count %d, error %v, want %d", step, n, err, len(w.oracle.ids(q.Filter)))
		}
		if step%20 == 0 {
			mustDo(t, w.oracle.differs(s, testName))
		}
		if step%90 == 89 {
			closeStore(t, s)
			s = openStore(t, dir, o)
			mustDo(t, w.oracle.differs(s, testName))
		}
	}
	mustDo(t, s.SnapshotError())
	if got := recalls / float64(searches); got < 0.99 {
		t.Errorf("mean recall %.3f", got)
	}
	closeStore(t, s)
}

// change makes one change at once or several in a batch, of which those behind
// the first that fails don't happen.
func (w *world) change(s *Store) (err error, fails bool) {
	if w.rng.IntN(4) > 0 {
		do, after, fails := w.step()
		w.oracle = after
		return do(&s.Changer, testName), fails
	}
	batch := s.NewBatch()
	for range 1 + w.rng.IntN(5) {
		do, after, failsHere := w.step()
		if err := do(&batch.Changer, testName); err != nil {
			return err, false
		}
		if !fails {
			w.oracle = after
		}
		fails = fails || failsHere
	}
	_, err = batch.Commit(ctx)
	return err, fails
}

// Each fault, or a power cut, at every operation on the disk while changes and
// snapshots go on: what was acknowledged is there afterwards, and of the change
// whose outcome was unknown either all or nothing.
func TestDiskFaults(t *testing.T) {
	kinds := map[string]faultdisk.Options{
		"EIO": {Fault: faultdisk.EIO}, "ENOSPC": {Fault: faultdisk.ENOSPC}, "short write": {Fault: faultdisk.ShortWrite},
		"EIO from then on": {Fault: faultdisk.EIO, FaultSticky: true}, "power cut": {}, "kill": {CutKills: true},
	}
	_, operations := faultAt(t, faultdisk.Options{Seed: 1})
	for name, options := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hits := 0
			for at := 1; at <= operations; at++ {
				o := options
				o.Seed = uint64(at)
				if o.Fault != faultdisk.None {
					o.FaultAt = at
				} else {
					o.CutAt = at
				}
				if met, _ := faultAt(t, o); met {
					hits++
				}
			}
			t.Logf("%d of %d operations were hit", hits, operations)
			if hits < operations/4 {
				t.Error("too few")
			}
		})
	}
}

// faultAt runs one trial and reports whether the fault was met, and how many
// operations there were.
func faultAt(t *testing.T, options faultdisk.Options) (met bool, operations int) {
	t.Helper()
	disk := faultdisk.New(options)
	w := newWorld(options.Seed, vectors.Euclid, 4, 20)
	var possible []*oracle
	s, err := OpenDevice(disk, Options{SegmentBytes: 64 << 10, SnapshotBytes: -1})
	if err == nil {
		possible = changesOnFaultyDisk(t, w, s)
		_ = s.Close() // may fail as the disk does
	}
	met, operations = disk.Faults() > 0 || disk.Cut(), disk.Ops()
	disk.Heal()
	disk.PowerOff()
	again, err := OpenDevice(disk.Reboot(faultdisk.Options{}), Options{SegmentBytes: 64 << 10, SnapshotBytes: -1})
	if err != nil {
		t.Fatalf("%+v: open after the crash: %v", options, err)
	}
	defer closeStore(t, again)
	if possible == nil {
		return met, operations // creating the collection failed
	}
	var differences []string
	for _, o := range possible {
		err := o.differs(again, testName)
		if err == nil {
			return met, operations
		}
		differences = append(differences, err.Error())
	}
	t.Fatalf("%+v: the store is neither of %d possible states: %s", options, len(possible), strings.Join(differences, "; "))
	return met, operations
}

// changesOnFaultyDisk returns the states that the store may be in.
func changesOnFaultyDisk(t *testing.T, w *world, s *Store) []*oracle {
	t.Helper()
	if s.CreateCollection(ctx, testName, CollectionConfig{Dim: 4, Metric: vectors.Euclid}) != nil {
		return nil
	}
	for step := range 30 {
		do, after, fails := w.step()
		err := do(&s.Changer, testName)
		switch {
		case errors.Is(err, ErrFailed):
			mustDo(t, w.oracle.differs(s, testName)) // reads go on
			if err := do(&s.Changer, testName); !errors.Is(err, ErrFailed) && !errors.Is(err, ErrNotFound) {
				t.Fatalf("a change after a failed one: %v", err)
			}
			return []*oracle{w.oracle, after}
		case errors.Is(err, ErrDiskFull):
			continue
		case (err != nil) != fails:
			t.Fatalf("step %d: error %v", step, err)
		}
		w.oracle = after
		if step%10 == 9 {
			_, _ = s.Snapshot(ctx) // may fail as the disk does
		}
	}
	return []*oracle{w.oracle}
}

// Changes of many goroutines: each is seen by its own searches at once, and all
// of them after a restart; run with -race.
func TestConcurrentChanges(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{SnapshotBytes: 20 << 10, SegmentBytes: 256 << 10})
	mustDo(t, s.CreateCollection(ctx, testName, CollectionConfig{Dim: 8, Metric: vectors.Cosine, EfConstruction: 40, IndexFromBytes: 1}))
	worlds := make([]*world, 4)
	var wg sync.WaitGroup
	for i := range worlds {
		w := newWorld(uint64(i), vectors.Cosine, 8, 1)
		worlds[i] = w
		wg.Go(func() {
			for n := range 200 {
				p := Point{NumID(uint64(i*1000 + n%60)), w.vector(), Payload{"n": int64(n)}}
				if _, err := s.Upsert(ctx, testName, []Point{p}); err != nil {
					t.Error(err)
					return
				}
				w.oracle.points[p.ID] = p
				found, err := s.Search(ctx, testName, Search{Vector: p.Vector, Limit: 3, Payload: true})
				if err != nil || !slices.ContainsFunc(found, func(f Found) bool { return f.ID == p.ID && f.Payload["n"] == int64(n) }) {
					t.Errorf("point %v is not found right after its acknowledgement: %v, error %v", p.ID, found, err)
					return
				}
			}
		})
	}
	wg.Wait()
	all := newWorld(9, vectors.Cosine, 8, 1).oracle
	for _, w := range worlds {
		for id, p := range w.oracle.points {
			all.points[id] = p
		}
	}
	mustDo(t, all.differs(s, testName))
	closeStore(t, s)
	mustDo(t, s.SnapshotError())
	s = openStore(t, dir, Options{})
	mustDo(t, all.differs(s, testName))
	if s.Recovery().SnapshotSeq == 0 || s.Recovery().Replayed >= 800 {
		t.Errorf("no snapshot was loaded: %+v", s.Recovery())
	}
	closeStore(t, s)
}

// TestGraphFollows: the indexer takes everything in, and deleted points out.
func TestGraphFollows(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	defer closeStore(t, s)
	mustDo(t, s.CreateCollection(ctx, testName, CollectionConfig{Dim: 8, Metric: vectors.Euclid, EfConstruction: 50, IndexFromBytes: 300 * 32}))
	w := newWorld(1, vectors.Euclid, 8, 600)
	var points []Point
	for i := range uint64(600) {
		points = append(points, Point{NumID(i), w.vector(), nil})
	}
	_, err := s.Upsert(ctx, testName, points[:299])
	mustDo(t, err)
	if info, err := s.Info(testName); err != nil || info.Indexing || info.InGraph != 0 {
		t.Fatalf("below the size for a graph: %+v, error %v", info, err)
	}
	for range 4 {
		for at := 0; at < len(points); at += 50 {
			for i := range points[at : at+50] {
				points[at+i].Vector = w.vector()
			}
			_, err := s.Upsert(ctx, testName, points[at:at+50])
			mustDo(t, err)
		}
		mustDo(t, s.WaitIndexed(ctx, testName))
	}
	c, err := s.collection(testName)
	mustDo(t, err)
	if slots := len(c.slots); slots > 1500 {
		t.Errorf("%d slots for 600 points: they are not used again", slots)
	}
	for _, p := range points {
		w.oracle.points[p.ID] = p
	}
	total := 0.0
	for range 50 {
		total += w.oracle.checkSearch(t, s, testName, Search{Vector: w.vector(), Limit: 10})
	}
	if total < 0.95*50 {
		t.Errorf("recall %.3f", total/50)
	}
}
