package vectorstore

import (
	"fmt"
	"strconv"
	"strings"
)

// path leads to values in a payload: "a.b", "a[0].b", "a[].b" (every element).
// A key in double quotes may hold any character.
type path []step

// step goes into a key, one element of an array, or all of them.
type step struct {
	key   string
	index int // used when key is empty; every element when negative
}

const (
	everyElement = -1
	pathLenMax   = 1024
)

func parsePath(s string) (path, error) {
	if s == "" || len(s) > pathLenMax {
		return nil, fmt.Errorf("%w: payload key of %d bytes, want 1 to %d", ErrInvalid, len(s), pathLenMax)
	}
	var out path
	rest := s
	for {
		key, after, err := cutKey(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: payload key %q: %w", ErrInvalid, s, err)
		}
		out, rest = append(out, step{key: key}), after
		for strings.HasPrefix(rest, "[") {
			inside, after, closed := strings.Cut(rest[1:], "]")
			index := everyElement
			if inside != "" {
				n, err := strconv.ParseUint(inside, 10, 31)
				if err != nil {
					closed = false
				}
				index = int(n)
			}
			if !closed {
				return nil, fmt.Errorf("%w: payload key %q: bad index", ErrInvalid, s)
			}
			out, rest = append(out, step{index: index}), after
		}
		if rest == "" {
			return out, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("%w: payload key %q: want a dot before %q", ErrInvalid, s, rest)
		}
		rest = rest[1:]
	}
}

// cutKey takes one key off the front.
func cutKey(s string) (key, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		key, rest, closed := strings.Cut(s[1:], `"`)
		if !closed || key == "" {
			return "", "", fmt.Errorf("unclosed or empty quotes")
		}
		return key, rest, nil
	}
	end := strings.IndexAny(s, ".[")
	if end < 0 {
		end = len(s)
	}
	if end == 0 {
		return "", "", fmt.Errorf("empty key")
	}
	return s[:end], s[end:], nil
}

// visit calls f with each value at the path until f returns true, and reports
// whether it did. A value that is an array is given as such.
func visit(v any, at path, f func(any) bool) bool {
	if len(at) == 0 {
		return f(v)
	}
	if at[0].key != "" {
		object, ok := v.(map[string]any)
		if !ok {
			return false
		}
		inner, ok := object[at[0].key]
		return ok && visit(inner, at[1:], f)
	}
	list, _ := v.([]any)
	if at[0].index != everyElement {
		return at[0].index < len(list) && visit(list[at[0].index], at[1:], f)
	}
	for _, inner := range list {
		if visit(inner, at[1:], f) {
			return true
		}
	}
	return false
}

// removeAt deletes what the path leads to, in place.
func removeAt(v any, at path) {
	if at[0].key == "" {
		list, _ := v.([]any)
		for i, inner := range list {
			if len(at) > 1 && (at[0].index == everyElement || at[0].index == i) {
				removeAt(inner, at[1:])
			}
		}
		return
	}
	object, ok := v.(map[string]any)
	if !ok {
		return
	}
	if len(at) == 1 {
		delete(object, at[0].key)
		return
	}
	if inner, ok := object[at[0].key]; ok {
		removeAt(inner, at[1:])
	}
}
