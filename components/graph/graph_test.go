package graph

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/components/host"
)

func newTestGuests(t testing.TB, memoryLenMax int) *Guests {
	t.Helper()
	ctx := context.Background()
	runtime, err := host.New(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close(ctx) })
	return newVisitedGuests(t, runtime, VisitedBitmap, memoryLenMax)
}

func newVisitedGuests(t testing.TB, runtime *host.Runtime, visited Visited, memoryLenMax int) *Guests {
	t.Helper()
	guests, err := NewGuestsVisited(context.Background(), runtime, visited, memoryLenMax, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guests.Close() })
	return guests
}

// randomGraph has loops, edges twice, nodes without any and hubs.
func randomGraph(rng *rand.Rand, nodes, degree int) Reference {
	r := Reference{Edges: make([][]uint32, nodes), Documents: make([][]byte, nodes)}
	for n := range nodes {
		for range rng.IntN(2*degree + 1) {
			to := rng.IntN(nodes)
			if rng.IntN(3) == 0 {
				to = rng.IntN(1 + nodes/10) // hubs
			}
			r.Edges[n] = append(r.Edges[n], uint32(to))
		}
		r.Documents[n] = randomDocument(rng)
	}
	return r
}

func randomDocument(rng *rand.Rand) []byte {
	n := rng.IntN(100)
	if rng.IntN(20) == 0 {
		n = rng.IntN(2000)
	}
	document := make([]byte, n)
	for i := range document {
		document[i] = byte(rng.Uint32())
	}
	return document
}

func randomQuery(rng *rand.Rand, nodes int) Query {
	q := Query{
		Root:        uint32(rng.IntN(nodes)),
		DepthMax:    uint8(1 + rng.IntN(6)),
		Algorithm:   Algorithm(rng.IntN(2)),
		Documents:   rng.IntN(2) == 0,
		ChunkLenMax: uint32(rng.IntN(4000)),
	}
	switch rng.IntN(4) {
	case 0:
		q.ResultsMax = uint32(rng.IntN(nodes + 3))
	case 1:
		q.DepthMax = DepthMax
	}
	if rng.IntN(3) == 0 {
		q.ChunkLenMax = ChunkLenMax
	}
	return q
}

// engines are the implementations that must answer alike.
func engines(t testing.TB, guests *Guests, r Reference, options Options) map[string]Engine {
	t.Helper()
	image, err := Build(r.Edges, r.Documents)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(image); err != nil {
		t.Fatal(err)
	}
	native, err := NewNative(image, options)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := guests.Load(context.Background(), image, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	return map[string]Engine{"native": native, "guest": guest}
}

// sameChunk fails the test where engines and reference differ. It returns the chunk.
func sameChunk(t *testing.T, all map[string]Engine, r Reference, q Query, found []uint32) (Chunk, error) {
	t.Helper()
	want, wantErr := r.Cut(q, found, nil)
	for name, e := range all {
		got, err := e.Query(q, nil)
		if !errors.Is(err, wantErr) || !bytes.Equal(got, want) {
			t.Fatalf("%s: %+v\ngot  %.200x, error %v\nwant %.200x, error %v", name, q, got, err, want, wantErr)
		}
	}
	if wantErr != nil {
		return Chunk{}, wantErr
	}
	chunk, err := ParseChunk(want)
	if err != nil {
		t.Fatal(err)
	}
	return chunk, nil
}

// Every implementation gives the same answers on random graphs, chunk by chunk,
// with more streams under way than cursors, and documents replaced and repacked
// between chunks.
func TestEnginesEqualTheReference(t *testing.T) {
	guests := newTestGuests(t, 1<<21)
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r := randomGraph(rng, 1+rng.IntN(300), 1+rng.IntN(8))
		all := engines(t, guests, r, Options{ArenaGrowth: 8 << 10, Cursors: 1 + rng.IntN(4)})
		type stream struct {
			Query
			found []uint32
		}
		streams := make([]stream, 6)
		refusals := 0
		for range 250 {
			s := &streams[rng.IntN(len(streams))]
			if s.DepthMax == 0 {
				s.Query = randomQuery(rng, len(r.Edges))
				s.found = r.Find(s.Query)
			}
			chunk, err := sameChunk(t, all, r, s.Query, s.found)
			switch {
			case err != nil:
				refusals++
				s.Query = Query{}
			case chunk.Done || rng.IntN(30) == 0:
				s.Query = Query{}
			default:
				s.Position = chunk.Next
			}
			disturb(t, rng, all, r)
		}
		if refusals == 0 {
			t.Error("no chunk was too small: the queries are no test")
		}
	}
}

// disturb replaces documents and repacks, in all engines and the reference.
func disturb(t *testing.T, rng *rand.Rand, all map[string]Engine, r Reference) {
	t.Helper()
	for range rng.IntN(3) {
		node, document := uint32(rng.IntN(len(r.Edges)+1)), randomDocument(rng)
		results := map[string]error{}
		for name, e := range all {
			results[name] = e.Update(node, document)
		}
		if !errors.Is(results["native"], results["guest"]) {
			t.Fatalf("update of node %d: %v", node, results)
		}
		if results["native"] == nil {
			r.Documents[node] = document
		}
	}
	repack := rng.IntN(20) == 0
	var arenas []Arena
	for _, e := range all {
		if repack {
			if err := e.Repack(); err != nil {
				t.Fatal(err)
			}
		}
		arena, err := e.Arena()
		if err != nil {
			t.Fatal(err)
		}
		arenas = append(arenas, arena)
	}
	live := uint32(0)
	for _, d := range r.Documents {
		live += documentHeaderLen + uint32(len(d))
	}
	if arenas[0] != arenas[1] || arenas[0].Live != live || repack && arenas[0].Used > live+3*uint32(len(r.Documents)) {
		t.Fatalf("arenas %+v, %d bytes are current, repacked %v", arenas, live, repack)
	}
}

// The guest with the lesson's tree answers like the one with the bitmap.
func TestTreeSetEqualsTheReference(t *testing.T) {
	runtime, err := host.New(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close(context.Background()) })
	guests := newVisitedGuests(t, runtime, VisitedTree, 4<<20)
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 6))
		r := randomGraph(rng, 1+rng.IntN(3000), 6)
		all := engines(t, guests, r, Options{Cursors: 2})
		for range 40 {
			q := randomQuery(rng, len(r.Edges))
			if q.Algorithm == DFS {
				q.DepthMax = min(q.DepthMax, 4) // longer ones may pause
			}
			found := r.Find(q)
			for done := false; !done; {
				chunk, err := sameChunk(t, all, r, q, found)
				done = err != nil || chunk.Done
				q.Position = chunk.Next
			}
		}
	}
}

// Depth first and breadth first find the same nodes: distance decides.
func TestDFSFindsWhatBFSFinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		r := randomGraph(rng, 1+rng.IntN(60), 1+rng.IntN(4))
		q := randomQuery(rng, len(r.Edges))
		q.ResultsMax = 0
		sets := [2]map[uint32]bool{{}, {}}
		for algorithm := range sets {
			q.Algorithm = Algorithm(algorithm)
			for _, n := range r.Find(q) {
				if sets[algorithm][n] || n == q.Root {
					t.Fatalf("%+v: node %d found twice", q, n)
				}
				sets[algorithm][n] = true
			}
		}
		if fmt.Sprint(sets[0]) != fmt.Sprint(sets[1]) {
			t.Fatalf("%+v: BFS %v, DFS %v", q, sets[0], sets[1])
		}
	}
}

func TestRefusals(t *testing.T) {
	guests := newTestGuests(t, 1<<20)
	r := Reference{Edges: [][]uint32{{1}, {0}}, Documents: [][]byte{[]byte("zero"), make([]byte, DocumentLenMax)}}
	all := engines(t, guests, r, Options{ArenaGrowth: 120, Cursors: 1})
	for name, e := range all {
		for _, test := range []struct {
			q    Query
			want error
		}{
			{Query{Root: 2, DepthMax: 1}, UnknownNode},
			{Query{DepthMax: 0}, MalformedQuery},
			{Query{DepthMax: DepthMax + 1}, MalformedQuery},
			{Query{DepthMax: 1, Algorithm: 2}, MalformedQuery},
			{Query{DepthMax: 1, ChunkLenMax: ChunkLenMax + 1}, MalformedQuery},
			{Query{DepthMax: 1, ChunkLenMax: 3}, SmallChunk},
			{Query{DepthMax: 1, ChunkLenMax: ChunkLenMax, Documents: true}, nil},
		} {
			if got, err := e.Query(test.q, []byte("kept")); !errors.Is(err, test.want) || !bytes.HasPrefix(got, []byte("kept")) || err != nil && len(got) != 4 {
				t.Errorf("%s: %+v: %d bytes, error %v, want %v", name, test.q, len(got), err, test.want)
			}
		}
		for _, test := range []struct {
			node     uint32
			document []byte
			want     error
		}{
			{2, nil, UnknownNode}, {0, make([]byte, DocumentLenMax+1), TooLarge},
			{0, make([]byte, 200), Full}, {1, make([]byte, 100), nil}, {0, make([]byte, 100), nil},
		} {
			if err := e.Update(test.node, test.document); !errors.Is(err, test.want) {
				t.Errorf("%s: update of node %d: error %v, want %v", name, test.node, err, test.want)
			}
		}
	}
	for _, cursors := range []int{0, CursorsMax + 1} {
		if _, err := NewNative(nil, Options{Cursors: cursors}); err == nil {
			t.Errorf("%d cursors were accepted", cursors)
		}
	}
}

// A worst graph for depth-first search: every node is met again on a shorter
// way. A call ends all the same, and the stream goes on.
func TestLongSearchesPause(t *testing.T) {
	guests := newTestGuests(t, 8<<20)
	const nodes = 3000
	r := Reference{Edges: make([][]uint32, nodes), Documents: make([][]byte, nodes)}
	for n := range nodes {
		for to := min(n+200, nodes-1); to > n; to-- {
			r.Edges[n] = append(r.Edges[n], uint32(to))
		}
		if n+1 < nodes { // the longest way first
			r.Edges[n] = append([]uint32{uint32(n + 1)}, r.Edges[n]...)
		}
	}
	q := Query{Algorithm: DFS, DepthMax: DepthMax, ChunkLenMax: ChunkLenMax}
	want := r.Find(q)
	for name, e := range engines(t, guests, r, Options{Cursors: 1}) {
		var got []uint32
		pauses := 0
		for q := q; ; pauses++ {
			body, err := e.Query(q, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			chunk, err := ParseChunk(body)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, numbers(bytes.Clone(chunk.Records), len(chunk.Records)/4)...)
			if chunk.Done {
				break
			}
			q.Position = chunk.Next
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || pauses == 0 {
			t.Errorf("%s: %d results, want %d, after %d pauses", name, len(got), len(want), pauses)
		}
	}
}

// An update that a full arena refuses loses nothing, and a repack makes room.
func TestFragmentationIsMeasuredAndRepacked(t *testing.T) {
	guests := newTestGuests(t, 4<<20)
	rng := rand.New(rand.NewPCG(3, 3))
	r := randomGraph(rng, 500, 3)
	for name, e := range engines(t, guests, r, Options{ArenaGrowth: 200 << 10, Cursors: 1}) {
		worst := 0.0
		for range 3000 {
			if err := e.Update(uint32(rng.IntN(500)), randomDocument(rng)); err != nil && !errors.Is(err, Full) {
				t.Fatal(err)
			}
			arena, err := e.Arena()
			if err != nil {
				t.Fatal(err)
			}
			worst = max(worst, arena.Fragmentation())
		}
		if err := e.Repack(); err != nil {
			t.Fatal(err)
		}
		arena, err := e.Arena()
		if err != nil || arena.Repacks < 2 || worst < 0.5 || arena.Fragmentation() >= 0.05 {
			t.Errorf("%s: at worst %.2f fragmented, %.3f after the repack, %+v, error %v", name, worst, arena.Fragmentation(), arena, err)
		}
	}
}

// reseal makes the checksum of a changed image right again.
func reseal(image []byte) []byte {
	if len(image) >= headerLen {
		binary.LittleEndian.PutUint32(image[8:], crc32.Checksum(image[12:], castagnoli))
	}
	return image
}

func smallImage(t testing.TB) []byte {
	t.Helper()
	r := randomGraph(rand.New(rand.NewPCG(4, 4)), 9, 2)
	image, err := Build(r.Edges, r.Documents)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestCheckRefusesEveryFlippedBit(t *testing.T) {
	image := smallImage(t)
	for bit := range 8 * len(image) {
		damaged := bytes.Clone(image)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := Check(damaged); !errors.Is(err, MalformedImage) {
			t.Fatalf("bit %d flipped: error %v", bit, err)
		}
	}
	for n := range image {
		if err := Check(image[:n]); !errors.Is(err, MalformedImage) {
			t.Fatalf("cut off at %d: error %v", n, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, r := range map[string]Reference{
		"documents": {[][]uint32{{}}, nil},
		"edge":      {[][]uint32{{1}}, [][]byte{nil}},
		"length":    {[][]uint32{{}}, [][]byte{make([]byte, DocumentLenMax+1)}},
	} {
		if image, err := Build(r.Edges, r.Documents); err == nil {
			t.Errorf("%s: built %d bytes", name, len(image))
		}
	}
	if image, err := Build(nil, nil); err != nil || Check(image) != nil {
		t.Errorf("an empty graph: error %v", err)
	}
}

// FuzzImage: whatever the bytes, an image is refused by both or answers alike
// from both; behind a right checksum too.
func FuzzImage(f *testing.F) {
	guests := newTestGuests(f, 1<<20)
	f.Add(smallImage(f), uint32(0))
	f.Add([]byte(magic), uint32(7))
	f.Fuzz(func(t *testing.T, image []byte, at uint32) {
		image = reseal(bytes.Clone(image))
		options := Options{ArenaGrowth: 1000, Cursors: 2}
		native, err := NewNative(image, options)
		if len(image) > 256<<10 {
			return
		}
		guest, guestErr := guests.Load(context.Background(), image, options)
		if (err == nil) != (guestErr == nil) && !reservedSet(image) {
			t.Fatalf("native: error %v, guest: error %v", err, guestErr)
		}
		if guestErr == nil {
			defer guest.Close()
		}
		if err != nil || guestErr != nil {
			return
		}
		for _, algorithm := range []Algorithm{BFS, DFS} {
			q := Query{Root: at, DepthMax: 3, Algorithm: algorithm, Documents: true, ChunkLenMax: 500}
			a, errA := native.Query(q, nil)
			b, errB := guest.Query(q, nil)
			if !bytes.Equal(a, b) || !errors.Is(errA, errB) {
				t.Fatalf("native: %x, %v\nguest:  %x, %v", a, errA, b, errB)
			}
			update := bytes.Repeat([]byte{7}, int(at%900))
			if errA, errB := native.Update(at%9, update), guest.Update(at%9, update); !errors.Is(errA, errB) {
				t.Fatalf("update: native %v, guest %v", errA, errB)
			}
		}
	})
}

// reservedSet: the guest doesn't look at the header's zeros.
func reservedSet(image []byte) bool {
	return len(image) >= headerLen && !bytes.Equal(image[44:headerLen], make([]byte, 20))
}

func FuzzParseQuery(f *testing.F) {
	f.Add(AppendQuery(nil, Query{Root: 7, DepthMax: 3, Algorithm: DFS, Documents: true, ResultsMax: 8, Position: 9, ChunkLenMax: 10}))
	f.Fuzz(func(t *testing.T, src []byte) {
		q, err := ParseQuery(src)
		if err == nil && !bytes.Equal(AppendQuery(nil, q), src) {
			t.Fatalf("parsed %x as %+v", src, q)
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	f.Add(append(AppendChunkHeader(nil, Chunk{Results: 1, Next: 2, Done: true}), 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, src []byte) {
		chunk, err := ParseChunk(src)
		if err == nil && !bytes.Equal(append(AppendChunkHeader(nil, chunk), chunk.Records...), src) {
			t.Fatalf("parsed %x as %+v", src, chunk)
		}
	})
}

// Hammer: many guests at once, each held against its own reference.
func TestManyGuestsAtOnce(t *testing.T) {
	guests := newTestGuests(t, 2<<20)
	var wg sync.WaitGroup
	for worker := range uint64(6) {
		rng := rand.New(rand.NewPCG(worker, 5))
		r := randomGraph(rng, 200, 4)
		all := engines(t, guests, r, Options{ArenaGrowth: 4096, Cursors: 2})
		wg.Go(func() {
			for range 100 {
				q := randomQuery(rng, len(r.Edges))
				want, wantErr := r.Chunk(q, nil)
				got, err := all["guest"].Query(q, nil)
				if !errors.Is(err, wantErr) || !bytes.Equal(got, want) {
					t.Errorf("worker %d: %+v: error %v, want %v", worker, q, err, wantErr)
					return
				}
			}
		})
	}
	wg.Wait()
}

func ExampleGuests() {
	ctx := context.Background()
	runtime, err := host.New(ctx, "")
	if err != nil {
		panic(err)
	}
	defer runtime.Close(ctx)
	guests, err := NewGuests(ctx, runtime, 1<<20, 1)
	if err != nil {
		panic(err)
	}
	defer guests.Close()
	image, err := Build([][]uint32{{1, 2}, {2}, {}}, [][]byte{[]byte("a"), []byte("b"), []byte("c")})
	if err != nil {
		panic(err)
	}
	guest, err := guests.Load(ctx, image, Options{Cursors: 1})
	if err != nil {
		panic(err)
	}
	defer guest.Close()
	body, err := guest.Query(Query{Root: 0, DepthMax: 2, Documents: true, ChunkLenMax: 1000}, nil)
	if err != nil {
		panic(err)
	}
	chunk, err := ParseChunk(body)
	if err != nil {
		panic(err)
	}
	fmt.Println(chunk.Results, chunk.Done)
	fmt.Printf("%q\n", chunk.Records)
	// Output:
	// 2 true
	// "\x01\x00\x00\x00\x01\x00\x00\x00b\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00c\x00\x00\x00"
}
