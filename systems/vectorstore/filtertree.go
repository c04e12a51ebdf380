package vectorstore

import "time"

// A filter is stored as a value: lists whose first element names the condition.

func (f *Filter) tree() any {
	if f == nil {
		return nil
	}
	list := func(conditions []Condition) any {
		out := make([]any, len(conditions))
		for i, c := range conditions {
			out[i] = c.tree()
		}
		return out
	}
	return []any{list(f.Must), list(f.Should), list(f.MustNot), list(f.MinShould), int64(f.MinCount)}
}

func bound[T any](p *T, tree func(T) any) any {
	if p == nil {
		return nil
	}
	return tree(*p)
}

func (m Match) tree() any { return []any{"match", m.Key.text, append([]any{}, m.Any...), m.Except} }

func (m MatchText) tree() any { return []any{"text", m.Key.text, m.Text, m.Any} }

func (r Range) tree() any {
	number := func(x float64) any { return x }
	return []any{"range", r.Key.text, bound(r.LT, number), bound(r.GT, number), bound(r.GTE, number), bound(r.LTE, number)}
}

func (r TimeRange) tree() any {
	text := func(x time.Time) any { return x.Format(time.RFC3339Nano) }
	return []any{"time", r.Key.text, bound(r.LT, text), bound(r.GT, text), bound(r.GTE, text), bound(r.LTE, text)}
}

func (n ValuesCount) tree() any {
	number := func(x uint64) any { return int64(x) }
	return []any{"count", n.Key.text, bound(n.LT, number), bound(n.GT, number), bound(n.GTE, number), bound(n.LTE, number)}
}

func (h HasID) tree() any {
	out := []any{"id"}
	for id := range h.IDs {
		out = append(out, string(appendID(nil, id)))
	}
	return out
}

func (e IsEmpty) tree() any { return []any{"empty", e.Key.text} }

func (e IsNull) tree() any { return []any{"null", e.Key.text} }

func (n Nested) tree() any { return []any{"nested", n.Key.text, n.Filter.tree()} }

func (s Sub) tree() any { return []any{"filter", s.Filter.tree()} }

// treeReader turns trees back; the first error stays in the decoder.
type treeReader struct{ d *decoder }

// filter reads a filter or, for nil, none.
func (r treeReader) filter(v any, depth int) *Filter {
	if v == nil {
		return nil
	}
	parts := r.list(v, 5)
	if parts == nil || depth > filterDepthMax {
		r.d.fail("filter nests too deeply or has no five parts")
		return nil
	}
	conditions := func(v any) []Condition {
		var out []Condition
		for _, c := range r.list(v, 0) {
			out = append(out, r.condition(r.list(c, 1), depth))
		}
		return out
	}
	f := &Filter{Must: conditions(parts[0]), Should: conditions(parts[1]), MustNot: conditions(parts[2]), MinShould: conditions(parts[3])}
	count, _ := parts[4].(int64)
	f.MinCount = int(count)
	if err := f.Check(); err != nil {
		r.d.fail("%v", err)
	}
	return f
}

// list is v as a list of at least n values.
func (r treeReader) list(v any, n int) []any {
	list, ok := v.([]any)
	if !ok || len(list) < n {
		r.d.fail("want a list of %d in a filter", n)
		return nil
	}
	return list
}

func (r treeReader) key(v any) Key {
	text, _ := v.(string)
	key, err := NewKey(text)
	if err != nil {
		r.d.fail("%v", err)
	}
	return key
}

func (r treeReader) text(v any) string {
	text, ok := v.(string)
	if !ok {
		r.d.fail("want a text in a filter")
	}
	return text
}

func readBound[T, S any](r treeReader, v any, convert func(S) (T, error)) *T {
	if v == nil {
		return nil
	}
	stored, ok := v.(S)
	if !ok {
		r.d.fail("bound is a %T", v)
		return nil
	}
	out, err := convert(stored)
	if err != nil {
		r.d.fail("bound: %v", err)
	}
	return &out
}

func (r treeReader) condition(c []any, depth int) Condition {
	if c == nil {
		return HasID{}
	}
	name, _ := c[0].(string)
	need := map[string]int{"match": 4, "text": 4, "range": 6, "time": 6, "count": 6, "id": 1, "empty": 2, "null": 2, "nested": 3, "filter": 2}[name]
	if need == 0 || r.list(c, need) == nil {
		r.d.fail("condition %q", name)
		return HasID{}
	}
	yes := func(v any) bool { b, _ := v.(bool); return b }
	switch name {
	case "match":
		return Match{Key: r.key(c[1]), Any: r.list(c[2], 0), Except: yes(c[3])}
	case "text":
		return MatchText{Key: r.key(c[1]), Text: r.text(c[2]), Any: yes(c[3])}
	case "range":
		same := func(x float64) (float64, error) { return x, nil }
		return Range{r.key(c[1]), readBound(r, c[2], same), readBound(r, c[3], same), readBound(r, c[4], same), readBound(r, c[5], same)}
	case "time":
		parse := func(s string) (time.Time, error) { return time.Parse(time.RFC3339Nano, s) }
		return TimeRange{r.key(c[1]), readBound(r, c[2], parse), readBound(r, c[3], parse), readBound(r, c[4], parse), readBound(r, c[5], parse)}
	case "count":
		unsigned := func(x int64) (uint64, error) { return uint64(x), nil }
		return ValuesCount{r.key(c[1]), readBound(r, c[2], unsigned), readBound(r, c[3], unsigned), readBound(r, c[4], unsigned), readBound(r, c[5], unsigned)}
	case "id":
		return r.hasID(c[1:])
	case "empty":
		return IsEmpty{r.key(c[1])}
	case "null":
		return IsNull{r.key(c[1])}
	case "nested":
		if f := r.filter(c[2], depth+1); f != nil {
			return Nested{r.key(c[1]), *f}
		}
		return Nested{Key: r.key(c[1])}
	default:
		if f := r.filter(c[1], depth+1); f != nil {
			return Sub{*f}
		}
		return Sub{}
	}
}

func (r treeReader) hasID(list []any) Condition {
	ids := make(map[PointID]struct{}, len(list))
	for _, v := range list {
		inner := &decoder{src: []byte(r.text(v))}
		ids[inner.id()] = struct{}{}
		if err := inner.end(); err != nil {
			r.d.fail("id: %v", err)
		}
	}
	return HasID{ids}
}
