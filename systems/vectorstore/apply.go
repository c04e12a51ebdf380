package vectorstore

import (
	"errors"
	"fmt"
	"sort"
)

// Result says what a change did.
type Result struct {
	// Seq is the change's place in the store's log.
	Seq uint64
	// Points is how many points it touched.
	Points int
}

// apply carries one operation out. It is called in the order of the log, by one
// goroutine at a time, and gives the same result whenever the log is read again.
func (s *Store) apply(o *op) (Result, error) {
	switch o.kind {
	case opCreateCollection:
		return Result{}, s.addCollection(o)
	case opDeleteCollection:
		return Result{}, s.dropCollection(o.collection)
	case opBatch:
		var total Result
		for _, inner := range o.batch {
			got, err := s.apply(inner)
			total.Points += got.Points
			if err != nil {
				return total, err
			}
		}
		return total, nil
	}
	c, err := s.collection(o.collection)
	if err != nil {
		return Result{}, err
	}
	c.mu.Lock()
	n, err := c.apply(o)
	c.mu.Unlock()
	c.indexer.wake()
	return Result{Points: n}, err
}

func (c *collection) apply(o *op) (int, error) {
	switch o.kind {
	case opUpdateCollection:
		c.config.IndexFromBytes = o.config.IndexFromBytes
		return 0, nil
	case opUpsert:
		return c.each(o.points, c.upsert)
	case opUpdateVectors:
		return c.each(o.points, c.setVector)
	case opCreateIndex:
		return 0, c.createIndex(o)
	case opDeleteIndex:
		return 0, c.deleteIndex(o)
	}
	ids := c.selected(o.selector)
	var missing error
	if o.kind != opDelete {
		missing = c.firstMissing(o.selector)
	}
	return len(ids), errors.Join(c.applyTo(ids, o), missing)
}

// firstMissing is ErrNotFound for the first point of a list that is not there.
// As Qdrant does, those that are there are changed all the same.
func (c *collection) firstMissing(s Selector) error {
	if s.ByFilter {
		return nil
	}
	for _, id := range s.IDs {
		if _, ok := c.byID[id]; !ok {
			return fmt.Errorf("%w: No point with id %v found", ErrNotFound, id)
		}
	}
	return nil
}

// each goes on after an error and returns the first one.
func (c *collection) each(points []Point, do func(Point) error) (done int, first error) {
	for _, p := range points {
		err := do(p)
		if err == nil {
			done++
		} else if first == nil {
			first = err
		}
	}
	return done, first
}

// applyTo changes the payloads of, or deletes, the points.
func (c *collection) applyTo(ids []PointID, o *op) error {
	paths := make([]path, len(o.keys))
	for i, key := range o.keys {
		var err error
		if paths[i], err = parsePath(key); err != nil {
			return err
		}
	}
	for _, id := range ids {
		at := c.byID[id]
		switch before := c.slots[at].payload; o.kind {
		case opDelete:
			c.remove(id)
		case opClearPayload:
			c.setPayload(at, nil)
		case opOverwritePayload:
			c.setPayload(at, o.payload)
		case opDeletePayload:
			c.setPayload(at, before.without(paths))
		case opSetPayload:
			if len(paths) == 0 {
				c.setPayload(at, before.merged(o.payload))
			} else {
				c.setPayload(at, before.mergedAt(paths[0], o.payload))
			}
		}
	}
	return nil
}

// mergedAt is a copy of p in which the object at the path has the values of
// more; keys on the way are made where they are missing.
func (p Payload) mergedAt(at path, more Payload) Payload {
	out := copied(map[string]any(p)).(map[string]any)
	mergeAt(out, at, more)
	return out
}

func mergeAt(v any, at path, more Payload) any {
	if len(at) == 0 {
		object, ok := v.(map[string]any)
		if !ok {
			object = map[string]any{}
		}
		return map[string]any(Payload(object).merged(more))
	}
	if at[0].key != "" {
		object, ok := v.(map[string]any)
		if !ok {
			object = map[string]any{}
		}
		object[at[0].key] = mergeAt(object[at[0].key], at[1:], more)
		return object
	}
	list, ok := v.([]any)
	if !ok {
		return v
	}
	for i := range list {
		if at[0].index == everyElement || at[0].index == i {
			list[i] = mergeAt(list[i], at[1:], more)
		}
	}
	return list
}

func (c *collection) createIndex(o *op) error {
	if len(o.keys) != 1 {
		return fmt.Errorf("%w: an index has one key", ErrInvalid)
	}
	key, err := NewKey(o.keys[0])
	if err != nil {
		return err
	}
	index := newFieldIndex(key, o.indexType)
	for at := range c.slots {
		if c.slots[at].live {
			index.add(uint32(at), c.slots[at].payload)
		}
	}
	c.indexes[key.text] = index
	return nil
}

func (c *collection) deleteIndex(o *op) error {
	for _, key := range o.keys {
		delete(c.indexes, key)
	}
	return nil
}

// addCollection and dropCollection change the store's list of collections.
func (s *Store) addCollection(o *op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.collections[o.collection] != nil {
		return fmt.Errorf("%w: Collection `%s` already exists", ErrExists, o.collection)
	}
	c, err := newCollection(o.collection, o.config)
	if err != nil {
		return err
	}
	s.collections[o.collection] = c
	c.indexer.turns = s.turns
	s.indexers.Go(func() { c.indexer.run(c) })
	return nil
}

func (s *Store) dropCollection(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collections[name]
	if c == nil {
		return fmt.Errorf("%w: Collection `%s` doesn't exist", ErrNotFound, name)
	}
	delete(s.collections, name)
	c.indexer.stop()
	return nil
}

func (s *Store) collection(name string) (*collection, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.collections[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w: Collection `%s` doesn't exist", ErrNotFound, name)
}

// Collections returns their names in order.
func (s *Store) Collections() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make([]string, 0, len(s.collections))
	for name := range s.collections {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
