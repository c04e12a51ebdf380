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
	var changes []change
	for slot := at; slot < min(at+nodesPerStep, uint32(len(ix.states))); slot++ {
		if ix.states[slot] == absent || int(slot) < len(gone) && gone[slot] {
			continue // those deleted meanwhile are walked over by searches: they are repaired too
		}
		for level := 0; level <= ix.levelOf(slot); level++ {
			if c, ok := ix.past(slot, level, gone); ok {
				changes = append(changes, c)
			}
		}
	}
	if len(changes) > 0 {
		ix.mu.Lock()
		for _, c := range changes {
			ix.setLinks(c.slot, c.level, c.links)
		}
		ix.mu.Unlock()
	}
	return true
}

// past is a node's links without those that are gone, chosen from what is left
// and from the links of the gone ones.
func (ix *Index) past(slot uint32, level int, gone []bool) (change, bool) {
	isGone := func(other uint32) bool { return int(other) < len(gone) && gone[other] }
	before := ix.links(slot, level)
	if !slices.ContainsFunc(before, isGone) {
		return change{}, false
	}
	s := ix.planner
	s.begin(len(ix.states))
	s.visited[slot] = s.round
	var candidates []uint32
	add := func(other uint32) {
		if s.visited[other] != s.round && ix.states[other] == live {
			s.visited[other] = s.round
			candidates = append(candidates, other)
		}
	}
	for _, other := range before {
		if !isGone(other) {
			add(other)
			continue
		}
		for _, further := range ix.links(other, level) {
			add(further)
		}
	}
	chosen := ix.choose(s, ix.byDistance(s, slot, candidates), ix.linksMax(level))
	return change{slot, level, append([]uint32(nil), chosen...)}, true
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
