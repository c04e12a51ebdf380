package hnsw

import "slices"

// Delete makes a slot unfindable. It reports whether it was there.
func (ix *Index) Delete(slot uint32) bool {
	ix.changing.Lock()
	defer ix.changing.Unlock()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if int(slot) >= len(ix.states) || ix.states[slot] != live {
		return false
	}
	ix.states[slot] = dead
	ix.alive--
	ix.doomed++
	return true
}

// nodesPerStep is how many nodes Consolidate looks at before it lets inserts in.
const nodesPerStep = 64

// Consolidate takes the slots that are deleted now out of the graph and returns
// them; their vectors may then be replaced and the slots inserted again. Nodes
// that linked to them get links to their neighbours instead (as FreshDiskANN
// does). Inserts and searches go on meanwhile. One call at a time.
func (ix *Index) Consolidate() []uint32 {
	ix.mu.RLock()
	gone := make([]bool, len(ix.states))
	var slots []uint32
	for slot, state := range ix.states {
		if state == dead {
			gone[slot] = true
			slots = append(slots, uint32(slot))
		}
	}
	ix.mu.RUnlock()
	if len(slots) == 0 {
		return nil
	}
	for at := 0; ; at += nodesPerStep {
		if !ix.bridge(uint32(at), gone) {
			break
		}
	}
	ix.remove(slots)
	return slots
}

// bridge repairs the nodes from slot at on; it returns false behind the last.
func (ix *Index) bridge(at uint32, gone []bool) bool {
	ix.changing.Lock()
	defer ix.changing.Unlock()
	if int(at) >= len(ix.states) {
		return false
	}
	for slot := at; slot < min(at+nodesPerStep, uint32(len(ix.states))); slot++ {
		if ix.states[slot] == absent || isGone(gone, slot) {
			continue // those deleted meanwhile are walked over by searches: they are repaired too
		}
		for level := 0; level <= ix.levelOf(slot); level++ {
			if changes := ix.past(slot, level, gone); len(changes) > 0 {
				ix.mu.Lock()
				for _, c := range changes {
					ix.setLinks(c.slot, c.level, c.links)
				}
				ix.mu.Unlock()
			}
		}
	}
	return true
}

func isGone(gone []bool, slot uint32) bool { return int(slot) < len(gone) && gone[slot] }

// goneMax bounds how many gone nodes are walked over to get past them.
const goneMax = 256

// past gives a node new links in place of those to gone nodes: chosen from the
// ones left and from what the gone ones lead to, over as many gone ones as it
// takes. The nodes that it newly links to link back, so that it stays reachable.
func (ix *Index) past(slot uint32, level int, gone []bool) []change {
	before := ix.links(slot, level)
	if !slices.ContainsFunc(before, func(other uint32) bool { return isGone(gone, other) }) {
		return nil
	}
	s := ix.planner
	candidates := ix.beyond(s, slot, level, gone)
	near := ix.byDistance(s, slot, candidates)
	if len(near) == 0 && ix.alive > 1 {
		// Everything around it is gone: it is put in anew.
		s.query.SetSlot(slot)
		start := ix.descend(s, s.query, level)
		ix.searchLevel(s, s.query, []item{start}, ix.o.EfConstruction, level, func(other uint32) bool { return other != slot })
		near = s.ordered()
	}
	links := append([]uint32(nil), ix.choose(s, near, ix.linksMax(level))...)
	changes := []change{{slot, level, links}}
	for _, other := range links {
		if !slices.Contains(before, other) && !slices.Contains(ix.links(other, level), slot) {
			changes = append(changes, ix.linkBack(s, other, slot, level))
		}
	}
	return changes
}

// beyond are the live nodes next to a node, gone ones walked over.
func (ix *Index) beyond(s *searcher, slot uint32, level int, gone []bool) []uint32 {
	s.begin(len(ix.states))
	s.visited[slot] = s.round
	var candidates []uint32
	walk := []uint32{slot}
	for at := 0; at < len(walk) && at < goneMax; at++ {
		for _, other := range ix.links(walk[at], level) {
			if s.visited[other] == s.round {
				continue
			}
			s.visited[other] = s.round
			switch {
			case isGone(gone, other):
				walk = append(walk, other)
			case ix.states[other] == live:
				candidates = append(candidates, other)
			}
		}
	}
	return candidates
}

// remove takes slots out that no live node links to any more.
func (ix *Index) remove(slots []uint32) {
	ix.changing.Lock()
	defer ix.changing.Unlock()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for _, slot := range slots {
		ix.states[slot] = absent
		ix.upper[slot] = nil
		ix.room(slot, 0)[0] = 0
	}
	ix.doomed -= len(slots)
	if ix.top >= 0 && ix.states[ix.entry] == absent {
		ix.elect()
	}
}

// elect makes a live node of the highest level the entry, or any deleted one
// when none lives.
func (ix *Index) elect() {
	ix.top = -1
	for _, want := range []state{live, dead} {
		for slot, state := range ix.states {
			if state == want && ix.levelOf(uint32(slot)) > ix.top {
				ix.entry, ix.top = uint32(slot), ix.levelOf(uint32(slot))
			}
		}
		if ix.top >= 0 {
			return
		}
	}
}
