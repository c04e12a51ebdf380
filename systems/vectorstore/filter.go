package vectorstore

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter is met by points that meet all of Must, at least one of Should (when
// there are any), none of MustNot, and at least MinCount of MinShould.
type Filter struct {
	Must, Should, MustNot []Condition
	MinShould             []Condition
	MinCount              int
}

// Condition is one of the types below. Where the value at a key is an array,
// Match and Range are met when one of its elements meets them.
type Condition interface {
	met(c *candidate) bool
	tree() any // for the log, see decodeCondition
}

// candidate is a point or a nested object of one.
type candidate struct {
	id      PointID
	payload any
}

// Key is a path in the payload, as NewKey reads it.
type Key struct {
	text string
	path path
}

// NewKey reads a path like "a.b", "a[].b" or "a[0]".
func NewKey(s string) (Key, error) {
	at, err := parsePath(s)
	return Key{s, at}, err
}

// String is the path as it was read.
func (k Key) String() string { return k.text }

// Match is met by a value that is one of Any, or, with Except, by one that is
// none of them. Values are bool, int64 or string and match their own type only.
type Match struct {
	Key    Key
	Any    []any
	Except bool
}

// MatchText is met by strings that hold Text: as a whole or, with Any, one of
// its words.
type MatchText struct {
	Key  Key
	Text string
	Any  bool
}

// Range is met by numbers between the bounds that are set.
type Range struct {
	Key              Key
	LT, GT, GTE, LTE *float64
}

// TimeRange is met by RFC 3339 strings between the bounds that are set.
type TimeRange struct {
	Key              Key
	LT, GT, GTE, LTE *time.Time
}

// ValuesCount is met when the number of values at the key is between the bounds
// that are set: an array's length, 1 for any other value, 0 where nothing is.
type ValuesCount struct {
	Key              Key
	LT, GT, GTE, LTE *uint64
}

// HasID is met by the points with these ids.
type HasID struct{ IDs map[PointID]struct{} }

// IsEmpty is met where nothing, null or an empty array is at the key.
type IsEmpty struct{ Key Key }

// IsNull is met where a null is at the key.
type IsNull struct{ Key Key }

// Nested is met when one element of the array of objects at the key meets the
// whole filter.
type Nested struct {
	Key    Key
	Filter Filter
}

// Sub is a filter as a condition.
type Sub struct{ Filter Filter }

// Matches says whether a point meets the filter; nil is met by all.
func (f *Filter) Matches(id PointID, payload Payload) bool {
	if f == nil {
		return true
	}
	return f.met(&candidate{id, map[string]any(payload)})
}

func (f *Filter) met(c *candidate) bool {
	for _, condition := range f.Must {
		if !condition.met(c) {
			return false
		}
	}
	for _, condition := range f.MustNot {
		if condition.met(c) {
			return false
		}
	}
	if len(f.Should) > 0 && !slices.ContainsFunc(f.Should, func(s Condition) bool { return s.met(c) }) {
		return false
	}
	met := 0
	for _, condition := range f.MinShould {
		if condition.met(c) {
			met++
		}
	}
	return met >= f.MinCount
}

// values calls f with each value at the key, elements of arrays one by one.
func (k Key) values(c *candidate, f func(any) bool) bool {
	return visit(c.payload, k.path, func(v any) bool {
		if list, ok := v.([]any); ok {
			return slices.ContainsFunc(list, f)
		}
		return f(v)
	})
}

func (m Match) met(c *candidate) bool {
	return m.Key.values(c, func(v any) bool {
		switch v.(type) {
		case bool, int64, string:
			return slices.Contains(m.Any, v) != m.Except
		default:
			return false
		}
	})
}

func (m MatchText) met(c *candidate) bool {
	return m.Key.values(c, func(v any) bool {
		s, ok := v.(string)
		if !ok {
			return false
		}
		if !m.Any {
			return strings.Contains(s, m.Text)
		}
		return slices.ContainsFunc(strings.Fields(m.Text), func(word string) bool { return strings.Contains(s, word) })
	})
}

func (r Range) met(c *candidate) bool {
	return r.Key.values(c, func(v any) bool {
		var x float64
		switch v := v.(type) {
		case int64:
			x = float64(v)
		case float64:
			x = v
		default:
			return false
		}
		return (r.LT == nil || x < *r.LT) && (r.GT == nil || x > *r.GT) && (r.GTE == nil || x >= *r.GTE) && (r.LTE == nil || x <= *r.LTE)
	})
}

func (r TimeRange) met(c *candidate) bool {
	return r.Key.values(c, func(v any) bool {
		s, ok := v.(string)
		if !ok {
			return false
		}
		x, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return false
		}
		return (r.LT == nil || x.Before(*r.LT)) && (r.GT == nil || x.After(*r.GT)) && (r.GTE == nil || !x.Before(*r.GTE)) && (r.LTE == nil || !x.After(*r.LTE))
	})
}

func (n ValuesCount) met(c *candidate) bool {
	var count uint64
	visit(c.payload, n.Key.path, func(v any) bool {
		if list, ok := v.([]any); ok {
			count += uint64(len(list))
		} else if v != nil {
			count++
		}
		return false
	})
	return (n.LT == nil || count < *n.LT) && (n.GT == nil || count > *n.GT) && (n.GTE == nil || count >= *n.GTE) && (n.LTE == nil || count <= *n.LTE)
}

func (h HasID) met(c *candidate) bool {
	_, ok := h.IDs[c.id]
	return ok
}

func (e IsEmpty) met(c *candidate) bool {
	return !visit(c.payload, e.Key.path, func(v any) bool {
		list, isList := v.([]any)
		return v != nil && (!isList || len(list) > 0)
	})
}

func (e IsNull) met(c *candidate) bool {
	return visit(c.payload, e.Key.path, func(v any) bool {
		if list, ok := v.([]any); ok {
			return slices.Contains(list, nil)
		}
		return v == nil
	})
}

func (n Nested) met(c *candidate) bool {
	return visit(c.payload, n.Key.path, func(v any) bool {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		return slices.ContainsFunc(list, func(element any) bool {
			_, ok := element.(map[string]any)
			return ok && n.Filter.met(&candidate{c.id, element})
		})
	})
}

func (s Sub) met(c *candidate) bool { return s.Filter.met(c) }

// filterDepthMax bounds how filters nest.
const filterDepthMax = 32

// Check refuses filters that nest too deeply or hold what can't be stored.
func (f *Filter) Check() error { return f.check(0) }

func (f *Filter) check(depth int) error {
	if f == nil {
		return nil
	}
	if depth > filterDepthMax {
		return fmt.Errorf("%w: filter nests deeper than %d", ErrInvalid, filterDepthMax)
	}
	if f.MinCount < 0 || f.MinCount > len(f.MinShould) {
		return fmt.Errorf("%w: min_should of %d among %d conditions", ErrInvalid, f.MinCount, len(f.MinShould))
	}
	for _, list := range [][]Condition{f.Must, f.Should, f.MustNot, f.MinShould} {
		for _, condition := range list {
			var err error
			switch c := condition.(type) {
			case Nested:
				err = c.Filter.check(depth + 1)
			case Sub:
				err = c.Filter.check(depth + 1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
