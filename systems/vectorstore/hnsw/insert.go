package hnsw

import "fmt"

// change is new links of one node on one level.
type change struct {
	slot  uint32
	level int
	links []uint32
}

// Insert adds a slot whose vector is in the table. When it returns, searches
// find it (as far as they find anything: see Search).
func (ix *Index) Insert(slot uint32) error {
	ix.changing.Lock()
	defer ix.changing.Unlock()
	if int(slot) < len(ix.states) && ix.states[slot] != absent {
		return fmt.Errorf("hnsw: slot %d is in the graph already", slot)
	}
	level := ix.drawLevel()
	changes := ix.plan(slot, level)
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.reserve(slot)
	ix.states[slot] = live
	ix.alive++
	if level > 0 {
		ix.upper[slot] = make([]uint32, level*ix.width(1))
	} else {
		ix.upper[slot] = nil
	}
	ix.room(slot, 0)[0] = 0
	for _, c := range changes {
		ix.setLinks(c.slot, c.level, c.links)
	}
	// Where only deleted nodes are, nothing was linked: the graph begins anew.
	if level > ix.top || ix.alive == 1 {
		ix.entry, ix.top = slot, level
	}
	return nil
}

// plan finds the new node's links on each of its levels, and the new links of
// those that it links to. It only reads.
func (ix *Index) plan(slot uint32, level int) []change {
	if ix.alive == 0 {
		return nil
	}
	s := ix.planner
	s.query.SetSlot(slot)
	starts := []item{ix.descend(s, s.query, level)}
	var changes []change
	for l := min(level, ix.top); l >= 0; l-- {
		ix.searchLevel(s, s.query, starts, ix.o.EfConstruction, l, nil)
		found := s.ordered()
		own := append([]uint32(nil), ix.choose(s, found, ix.o.M)...)
		if len(found) > 0 {
			starts = append(starts[:0], found...)
		}
		changes = append(changes, change{slot, l, own})
		for _, other := range own {
			changes = append(changes, ix.linkBack(s, other, slot, l))
		}
	}
	return changes
}

// choose selects links from candidates, nearest first: one that is nearer to an
// already chosen link than to the node itself is left out, since it can be
// reached over that one. So links go into all directions and not only to the
// nearest cluster. The result is valid until the next call.
func (ix *Index) choose(s *searcher, candidates []item, most int) []uint32 {
	s.chosen = s.chosen[:0]
	for _, c := range candidates {
		if len(s.chosen) == most {
			break
		}
		if !ix.shadowed(s, c) {
			s.chosen = append(s.chosen, c.slot)
		}
	}
	return s.chosen
}

// shadowedBatch is how many chosen links are compared at a time: the first few
// decide most cases.
const shadowedBatch = 8

func (ix *Index) shadowed(s *searcher, c item) bool {
	if len(s.chosen) == 0 {
		return false
	}
	s.pair.SetSlot(c.slot)
	var distances [shadowedBatch]float32
	for at := 0; at < len(s.chosen); at += shadowedBatch {
		part := s.chosen[at:min(at+shadowedBatch, len(s.chosen))]
		s.pair.Distances(part, distances[:])
		for i := range part {
			if distances[i] < c.key {
				return true
			}
		}
	}
	return false
}

// linkBack is the links of a node to which the new slot links. When they are
// full, deleted ones go first, then whatever choose leaves out.
func (ix *Index) linkBack(s *searcher, node, slot uint32, level int) change {
	before := ix.links(node, level)
	links := make([]uint32, 0, len(before)+1)
	full := len(before) == ix.linksMax(level)
	for _, other := range before {
		if !full || ix.states[other] == live {
			links = append(links, other)
		}
	}
	links = append(links, slot)
	if len(links) <= ix.linksMax(level) {
		return change{node, level, links}
	}
	return change{node, level, append(links[:0], ix.choose(s, ix.byDistance(s, node, links), ix.linksMax(level))...)}
}

// byDistance orders slots by their distance to a node.
func (ix *Index) byDistance(s *searcher, node uint32, slots []uint32) []item {
	s.pair.SetSlot(node)
	s.near = s.near[:0]
	for at := 0; at < len(slots); at += len(s.distances) {
		part := slots[at:min(at+len(s.distances), len(slots))]
		s.pair.Distances(part, s.distances[:])
		for i, slot := range part {
			s.near = append(s.near, item{s.distances[i], slot})
		}
	}
	sortItems(s.near)
	return s.near
}
