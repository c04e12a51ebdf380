package vectorstore

// fieldIndex knows which slots hold a value at a payload key, so that a filter
// on a tenant looks at that tenant's points only.
type fieldIndex struct {
	key    Key
	kind   IndexType
	slots  map[any]map[uint32]struct{}
	points int // slots with at least one value
}

func newFieldIndex(key Key, kind IndexType) *fieldIndex {
	return &fieldIndex{key: key, kind: kind, slots: map[any]map[uint32]struct{}{}}
}

// values calls f with each value of the payload that the index holds.
func (x *fieldIndex) values(payload Payload, f func(any)) {
	x.key.values(&candidate{payload: map[string]any(payload)}, func(v any) bool {
		var ok bool
		switch x.kind {
		case IndexKeyword, IndexUUID:
			_, ok = v.(string)
		case IndexFloat, IndexDatetime:
			_, ok = orderValue(v)
			_, text := v.(string)
			ok = ok && text == (x.kind == IndexDatetime)
		case IndexInteger:
			_, ok = v.(int64)
		case IndexBool:
			_, ok = v.(bool)
		}
		if ok {
			f(v)
		}
		return false
	})
}

func (x *fieldIndex) add(at uint32, payload Payload) {
	has := false
	x.values(payload, func(v any) {
		if x.slots[v] == nil {
			x.slots[v] = map[uint32]struct{}{}
		}
		x.slots[v][at] = struct{}{}
		has = true
	})
	if has {
		x.points++
	}
}

func (x *fieldIndex) remove(at uint32, payload Payload) {
	had := false
	x.values(payload, func(v any) {
		delete(x.slots[v], at)
		if len(x.slots[v]) == 0 {
			delete(x.slots, v)
		}
		had = true
	})
	if had {
		x.points--
	}
}

// lookup returns the slots that a condition may be met by, if the index can say.
func (x *fieldIndex) lookup(m Match) (sets []map[uint32]struct{}, total int, ok bool) {
	if m.Except {
		return nil, 0, false
	}
	for _, v := range m.Any {
		switch v.(type) {
		case string:
			ok = x.kind == IndexKeyword || x.kind == IndexUUID
		case int64:
			ok = x.kind == IndexInteger
		case bool:
			ok = x.kind == IndexBool
		}
		if !ok {
			return nil, 0, false
		}
		sets = append(sets, x.slots[v])
		total += len(x.slots[v])
	}
	return sets, total, true
}

// narrow returns the live slots among which all points are that meet the
// filter, when ids or an index say so. The smallest such set is chosen. c.mu is
// held.
func (c *collection) narrow(f *Filter) (map[uint32]struct{}, bool) {
	if f == nil {
		return nil, false
	}
	var best []map[uint32]struct{}
	bestTotal, found := 0, false
	for _, condition := range f.Must {
		switch m := condition.(type) {
		case HasID:
			if !found || len(m.IDs) < bestTotal {
				best, bestTotal, found = []map[uint32]struct{}{c.slotsOf(m)}, len(m.IDs), true
			}
		case Match:
			index := c.indexes[m.Key.text]
			if index == nil {
				continue
			}
			if sets, total, ok := index.lookup(m); ok && (!found || total < bestTotal) {
				best, bestTotal, found = sets, total, true
			}
		}
	}
	if !found {
		return nil, false
	}
	if len(best) == 1 {
		return best[0], true
	}
	union := make(map[uint32]struct{}, bestTotal)
	for _, set := range best {
		for at := range set {
			union[at] = struct{}{}
		}
	}
	return union, true
}

func (c *collection) slotsOf(h HasID) map[uint32]struct{} {
	out := make(map[uint32]struct{}, len(h.IDs))
	for id := range h.IDs {
		if at, ok := c.byID[id]; ok {
			out[at] = struct{}{}
		}
	}
	return out
}
