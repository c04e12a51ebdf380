// Package hnsw is a hierarchical navigable small world graph (Malkov and
// Yashunin, 2016) over the slots of a vectors.Table: an index that finds most
// of the nearest vectors after looking at a small part of them.
//
// # Concurrency
//
// All methods may be used concurrently. Searches run side by side. One change
// at a time is planned while searches go on, since only the planner changes the
// graph; searches wait for its short last step, which puts the new links in.
//
// # Deletions
//
// A deleted slot is no longer found but still leads to its neighbours.
// Consolidate joins the neighbours of all deleted slots past them and gives the
// slots back; until then they must keep their vectors.
package hnsw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"unsafe"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/distance"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// Defaults of Options. With them recall@10 on GloVe is above 0.95 (see
// RATIONALE).
const (
	DefaultM              = 16
	DefaultEfConstruction = 200
	DefaultEf             = 160
	// MMax bounds M: the links of a node on level 0 are one batch of distances.
	MMax = vectors.BatchMax / 2
	// EfMax bounds the candidates of one search.
	EfMax = 1 << 16

	levelMax = 15
)

// Options of an index. The zero value works.
type Options struct {
	M              int    // links of a node on each level, twice as many on level 0
	EfConstruction int    // candidates that are looked at for a new node's links
	Seed           uint64 // of the nodes' levels
}

func (o Options) withDefaults() (Options, error) {
	if o.M == 0 {
		o.M = DefaultM
	}
	if o.EfConstruction == 0 {
		o.EfConstruction = DefaultEfConstruction
	}
	if o.M < 2 || o.M > MMax || o.EfConstruction < 1 || o.EfConstruction > EfMax {
		return o, fmt.Errorf("hnsw: m %d, want 2 to %d; ef_construct %d, want 1 to %d", o.M, MMax, o.EfConstruction, EfMax)
	}
	return o, nil
}

// state of a slot.
type state uint8

const (
	absent state = iota
	live
	dead // deleted; leads to neighbours, is not found
)

const slotsPerBlock = 1024

// Index is the graph. See the package for its concurrency.
type Index struct {
	table *vectors.Table
	o     Options

	// changing is held by whoever changes the graph, from plan to change.
	changing sync.Mutex
	planner  *searcher
	rng      *rand.Rand

	// mu guards what follows: held for reading by searches, for writing by the
	// holder of changing when it puts its changes in. The holder of changing may
	// read without it.
	mu     sync.RWMutex
	states []state
	ground [][]uint32 // level 0: per slot the number of links and room for 2M, in blocks that never move
	upper  [][]uint32 // per slot, from level 1 up: the number of links and room for M; nil for most
	entry  uint32
	top    int // level of entry, -1 when nothing is in the graph
	alive  int
	doomed int

	searchers sync.Pool
}

// New makes an empty index over the table's slots.
func New(table *vectors.Table, o Options) (*Index, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	ix := &Index{table: table, o: o, top: -1, rng: rand.New(rand.NewPCG(o.Seed, 0x686e7377))}
	ix.planner = newSearcher(ix)
	ix.searchers.New = func() any { return newSearcher(ix) }
	return ix, nil
}

// Options returns the options in use, defaults filled in.
func (ix *Index) Options() Options { return ix.o }

// Len is how many slots can be found, and how many are deleted and still in
// the graph.
func (ix *Index) Len() (alive, deleted int) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.alive, ix.doomed
}

// Bytes is the memory that the graph takes, without the vectors.
func (ix *Index) Bytes() int64 {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	n := int64(len(ix.states)) + int64(len(ix.ground))*slotsPerBlock*int64(ix.width(0))*4 + int64(len(ix.upper))*24
	for _, links := range ix.upper {
		n += int64(len(links)) * 4
	}
	return n
}

// linksMax is how many links a node has on a level.
func (ix *Index) linksMax(level int) int {
	if level == 0 {
		return 2 * ix.o.M
	}
	return ix.o.M
}

// width is the room that a node's links take, their number included.
func (ix *Index) width(level int) int { return ix.linksMax(level) + 1 }

// room is where a node's links on a level are: their number, then the links.
func (ix *Index) room(slot uint32, level int) []uint32 {
	if level == 0 {
		width := ix.width(0)
		return ix.ground[slot/slotsPerBlock][int(slot%slotsPerBlock)*width:][:width:width]
	}
	width := ix.width(1)
	return ix.upper[slot][(level-1)*width:][:width:width]
}

// links are a node's links on a level; they must not be changed.
func (ix *Index) links(slot uint32, level int) []uint32 {
	room := ix.room(slot, level)
	return room[1:][:room[0]]
}

func (ix *Index) prefetchLinks(slot uint32, level int) {
	if level == 0 {
		room := ix.room(slot, 0)
		distance.Prefetch(unsafe.Pointer(&room[0]), 4*len(room))
	}
}

// setLinks replaces a node's links. ix.mu is held for writing.
func (ix *Index) setLinks(slot uint32, level int, links []uint32) {
	room := ix.room(slot, level)
	room[0] = uint32(copy(room[1:], links))
}

// levelOf is the highest level that a node is on.
func (ix *Index) levelOf(slot uint32) int { return len(ix.upper[slot]) / ix.width(1) }

// drawLevel gives each level a 1/M share of the nodes of the one below.
func (ix *Index) drawLevel() int {
	level := -math.Log(1-ix.rng.Float64()) / math.Log(float64(ix.o.M))
	return min(int(level), levelMax)
}

// reserve makes room for a slot. ix.mu is held for writing.
func (ix *Index) reserve(slot uint32) {
	for uint32(len(ix.states)) <= slot {
		ix.states = append(ix.states, absent)
		ix.upper = append(ix.upper, nil)
	}
	for uint32(len(ix.ground)*slotsPerBlock) <= slot {
		ix.ground = append(ix.ground, make([]uint32, slotsPerBlock*ix.width(0)))
	}
}
