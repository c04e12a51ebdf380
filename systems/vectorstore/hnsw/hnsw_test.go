// The graph is held against a scan of all vectors: what share of the true
// nearest ten it finds, that it never returns what is deleted, not accepted or
// at another distance than it says, through random changes.
package hnsw

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// clustered draws vectors around random centers: nearer to real data than
// independent coordinates, which have no structure to be lost in.
func clustered(seed uint64, n, dim int) [][]float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	centers := make([][]float32, 50)
	for i := range centers {
		centers[i] = gaussian(rng, dim, 1)
	}
	out := make([][]float32, n)
	for i := range out {
		out[i] = gaussian(rng, dim, 0.4)
		for j, x := range centers[rng.IntN(len(centers))] {
			out[i][j] += x
		}
	}
	return out
}

func gaussian(rng *rand.Rand, dim int, size float64) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(rng.NormFloat64() * size)
	}
	return v
}

// fixture is an index beside the dumb oracle: a map of what is in it.
type fixture struct {
	t     testing.TB
	table *vectors.Table
	index *Index
	in    map[uint32]bool
}

func newFixture(t testing.TB, dim int, metric vectors.Metric, quantized bool, o Options) *fixture {
	t.Helper()
	table, err := vectors.NewTable(dim, metric, quantized)
	if err != nil {
		t.Fatal(err)
	}
	index, err := New(table, o)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, table: table, index: index, in: map[uint32]bool{}}
}

func (f *fixture) insert(slot uint32, v []float32) {
	f.t.Helper()
	if err := f.table.Put(slot, v); err != nil {
		f.t.Fatal(err)
	}
	if err := f.index.Insert(slot); err != nil {
		f.t.Fatal(err)
	}
	f.in[slot] = true
}

func (f *fixture) query(v []float32) *vectors.Query {
	f.t.Helper()
	q := f.table.NewQuery()
	if err := q.Set(v); err != nil {
		f.t.Fatal(err)
	}
	return q
}

// exact scans.
func (f *fixture) exact(q *vectors.Query, k int, accept func(uint32) bool) []Hit {
	var all []Hit
	for slot := range f.in {
		if accept == nil || accept(slot) {
			var out [1]float32
			q.Exact([]uint32{slot}, out[:])
			all = append(all, Hit{slot, out[0]})
		}
	}
	slices.SortFunc(all, func(a, b Hit) int {
		if (item{a.Distance, a.Slot}).less(item{b.Distance, b.Slot}) {
			return -1
		}
		return 1
	})
	return all[:min(k, len(all))]
}

// recall checks every hit and returns the share of the true nearest k found.
func (f *fixture) recall(queries [][]float32, k, ef int, accept func(uint32) bool) float64 {
	f.t.Helper()
	found, wanted := 0, 0
	for _, v := range queries {
		q := f.query(v)
		truth := f.exact(q, k, accept)
		hits, err := f.index.Search(q, k, ef, accept)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(hits) > k {
			f.t.Fatalf("%d hits, asked for %d", len(hits), k)
		}
		seen := map[uint32]bool{}
		for i, hit := range hits {
			var out [1]float32
			q.Exact([]uint32{hit.Slot}, out[:])
			switch {
			case !f.in[hit.Slot] || accept != nil && !accept(hit.Slot):
				f.t.Fatalf("found slot %d, which is deleted or not accepted", hit.Slot)
			case seen[hit.Slot]:
				f.t.Fatalf("slot %d found twice", hit.Slot)
			case hit.Distance != out[0]:
				f.t.Fatalf("slot %d at %v, its distance is %v", hit.Slot, hit.Distance, out[0])
			case i > 0 && hit.Distance < hits[i-1].Distance:
				f.t.Fatalf("hit %d is nearer than the one before", i)
			}
			seen[hit.Slot] = true
		}
		wanted += len(truth)
		for _, hit := range truth {
			if seen[hit.Slot] {
				found++
			}
		}
	}
	return float64(found) / float64(max(wanted, 1))
}

func (f *fixture) wantRecall(least float64, queries [][]float32, k, ef int, accept func(uint32) bool) {
	f.t.Helper()
	got := f.recall(queries, k, ef, accept)
	f.t.Logf("recall@%d %.3f", k, got)
	if got < least {
		f.t.Errorf("recall@%d is %.3f, want %.2f", k, got, least)
	}
}

func TestRecall(t *testing.T) {
	for _, metric := range []vectors.Metric{vectors.Cosine, vectors.Dot, vectors.Euclid} {
		for _, quantized := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/int8=%v", metric, quantized), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, 48, metric, quantized, Options{EfConstruction: 100})
				all := clustered(1, 3100, 48)
				for i, v := range all[:3000] {
					f.insert(uint32(i), v)
				}
				f.wantRecall(0.95, all[3000:], 10, DefaultEf, nil)
			})
		}
	}
}

func TestFilteredRecall(t *testing.T) {
	f := newFixture(t, 32, vectors.Cosine, false, Options{EfConstruction: 100})
	all := clustered(2, 3050, 32)
	for i, v := range all[:3000] {
		f.insert(uint32(i), v)
	}
	for _, every := range []uint32{2, 10, 100} {
		f.wantRecall(0.95, all[3000:], 10, DefaultEf, func(slot uint32) bool { return slot%every == 0 })
	}
	if got := f.recall(all[3000:], 10, DefaultEf, func(uint32) bool { return false }); got != 0 {
		t.Errorf("recall %v of nothing", got)
	}
}

func TestSmallGraphs(t *testing.T) {
	for n := range 5 {
		f := newFixture(t, 8, vectors.Euclid, false, Options{})
		all := clustered(3, n+3, 8)
		for i, v := range all[:n] {
			f.insert(uint32(i), v)
		}
		if n > 0 {
			f.wantRecall(1, all[n:], 10, 0, nil)
		}
		for slot := range uint32(n) {
			if !f.index.Delete(slot) || f.index.Delete(slot) {
				t.Fatalf("deleting slot %d: not there, or there twice", slot)
			}
			delete(f.in, slot)
			f.wantRecall(0, all[n:], 10, 0, nil)
		}
		if freed := f.index.Consolidate(); len(freed) != n {
			t.Fatalf("%d slots freed of %d", len(freed), n)
		}
		f.insert(0, all[0])
		f.wantRecall(1, all[n:], 1, 0, nil)
	}
}

// Everything is replaced several times over: the graph must stay as good as one
// that was built at once.
func TestChurnKeepsRecall(t *testing.T) {
	const n, dim, rounds = 1000, 32, 4
	f := newFixture(t, dim, vectors.Cosine, false, Options{EfConstruction: 100})
	all := clustered(4, n*(rounds+1)+50, dim)
	queries, next, rng := all[len(all)-50:], 0, rand.New(rand.NewPCG(4, 4))
	var free []uint32
	for slot := range uint32(n) {
		f.insert(slot, all[next])
		next++
	}
	for round := range rounds {
		for _, slot := range rng.Perm(n)[:n/2] {
			if f.in[uint32(slot)] && f.index.Delete(uint32(slot)) {
				delete(f.in, uint32(slot))
			}
		}
		free = append(free, f.index.Consolidate()...)
		if alive, deleted := f.index.Len(); alive != len(f.in) || deleted != 0 {
			t.Fatalf("round %d: %d alive, %d deleted, want %d and 0", round, alive, deleted, len(f.in))
		}
		f.wantRecall(0.95, queries, 10, DefaultEf, nil)
		for _, slot := range free {
			f.insert(slot, all[next])
			next++
		}
		free = free[:0]
		f.wantRecall(0.95, queries, 10, DefaultEf, nil)
	}
}

// Nearly everything is deleted at once, then everything: the few that are left,
// and what comes afterwards, must still be reachable.
func TestMassDeletion(t *testing.T) {
	const n, dim = 300, 16
	all := clustered(8, 3*n, dim)
	for _, left := range []int{0, 1, 5, 60} {
		f := newFixture(t, dim, vectors.Euclid, false, Options{EfConstruction: 60})
		for slot := range uint32(n) {
			f.insert(slot, all[slot])
		}
		for slot := range uint32(n - left) {
			f.index.Delete(slot)
			delete(f.in, slot)
		}
		for slot := range uint32(20) { // while the deleted ones are still in the graph
			f.insert(n+slot, all[n+slot])
		}
		f.wantRecall(1, all[2*n:2*n+50], 10, DefaultEf, nil)
		free := f.index.Consolidate()
		f.wantRecall(1, all[2*n:2*n+50], 10, DefaultEf, nil)
		for i, slot := range free {
			f.insert(slot, all[n+50+i%200])
		}
		f.wantRecall(0.97, all[2*n:2*n+50], 10, DefaultEf, nil)
	}
}

// Searches, inserts, deletions and consolidations at once; run with -race.
func TestHammer(t *testing.T) {
	const n, dim = 1200, 16
	f := newFixture(t, dim, vectors.Euclid, true, Options{EfConstruction: 40})
	all := clustered(5, n, dim)
	stop := make(chan struct{})
	var searching, changing sync.WaitGroup
	for worker := range 2 {
		searching.Go(func() {
			q := f.query(all[worker])
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.index.Search(q, 10, 50, func(slot uint32) bool { return slot%3 != 0 }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for slot := range uint32(n) {
		if slot%200 == 199 {
			changing.Wait()
			changing.Go(func() { f.index.Consolidate() })
		}
		f.insert(slot, all[slot])
		if slot%4 == 3 {
			f.index.Delete(slot - 2)
			delete(f.in, slot-2)
		}
	}
	changing.Wait()
	close(stop)
	searching.Wait()
	f.wantRecall(0.9, all[:50], 10, DefaultEf, nil)
}

func TestWhatIsRefused(t *testing.T) {
	table, err := vectors.NewTable(4, vectors.Cosine, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{M: 1}, {M: MMax + 1}, {EfConstruction: -1}, {EfConstruction: EfMax + 1}} {
		if _, err := New(table, o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
	f := newFixture(t, 4, vectors.Cosine, false, Options{})
	f.insert(3, []float32{1, 0, 0, 0})
	if f.index.Insert(3) == nil {
		t.Error("a slot was inserted twice")
	}
	q := f.query([]float32{1, 0, 0, 0})
	for _, k := range []int{0, -1, EfMax + 1} {
		if _, err := f.index.Search(q, k, 10, nil); err == nil {
			t.Errorf("search for %d accepted", k)
		}
	}
}

// TestSameSeedSameGraph: the graph is a function of the seed and the order.
func TestSameSeedSameGraph(t *testing.T) {
	all := clustered(6, 400, 16)
	var first []Hit
	for range 2 {
		f := newFixture(t, 16, vectors.Cosine, false, Options{Seed: 9})
		for i, v := range all {
			f.insert(uint32(i), v)
		}
		hits, err := f.index.Search(f.query(all[7]), 10, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !slices.Equal(first, hits) {
			t.Fatalf("another graph: %v, then %v", first, hits)
		}
		first = hits
	}
}

func BenchmarkSearch(b *testing.B) {
	for _, quantized := range []bool{false, true} {
		b.Run(fmt.Sprintf("int8=%v", quantized), func(b *testing.B) {
			f := newFixture(b, 100, vectors.Cosine, quantized, Options{})
			all := clustered(7, 5100, 100)
			for i, v := range all[:5000] {
				f.insert(uint32(i), v)
			}
			queries := make([]*vectors.Query, 100)
			for i := range queries {
				queries[i] = f.query(all[5000+i])
			}
			for i := 0; b.Loop(); i++ {
				if _, err := f.index.Search(queries[i%100], 10, DefaultEf, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
