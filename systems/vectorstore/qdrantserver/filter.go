package qdrantserver

import (
	"time"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

func filterOf(f *qdrant.Filter) (*vectorstore.Filter, error) {
	if f == nil {
		return nil, nil
	}
	out := &vectorstore.Filter{MinCount: int(min(f.GetMinShould().GetMinCount(), 1<<30))}
	for _, part := range []struct {
		from []*qdrant.Condition
		to   *[]vectorstore.Condition
	}{{f.GetMust(), &out.Must}, {f.GetShould(), &out.Should}, {f.GetMustNot(), &out.MustNot}, {f.GetMinShould().GetConditions(), &out.MinShould}} {
		for _, c := range part.from {
			condition, err := conditionOf(c)
			if err != nil {
				return nil, err
			}
			*part.to = append(*part.to, condition)
		}
	}
	if out.MinCount > len(out.MinShould) {
		// More than there are conditions: nothing meets it.
		out.Must = append(out.Must, vectorstore.HasID{})
		out.MinCount = 0
	}
	return out, nil
}

func conditionOf(c *qdrant.Condition) (vectorstore.Condition, error) {
	switch c := c.GetConditionOneOf().(type) {
	case *qdrant.Condition_Field:
		return fieldOf(c.Field)
	case *qdrant.Condition_HasId:
		ids, err := idsOf(c.HasId.GetHasId())
		set := make(map[vectorstore.PointID]struct{}, len(ids))
		for _, id := range ids {
			set[id] = struct{}{}
		}
		return vectorstore.HasID{IDs: set}, err
	case *qdrant.Condition_IsEmpty:
		key, err := vectorstore.NewKey(c.IsEmpty.GetKey())
		return vectorstore.IsEmpty{Key: key}, err
	case *qdrant.Condition_IsNull:
		key, err := vectorstore.NewKey(c.IsNull.GetKey())
		return vectorstore.IsNull{Key: key}, err
	case *qdrant.Condition_Filter:
		f, err := filterOf(c.Filter)
		if err != nil || f == nil {
			return vectorstore.Sub{}, err
		}
		return vectorstore.Sub{Filter: *f}, nil
	case *qdrant.Condition_Nested:
		return nestedOf(c.Nested)
	case *qdrant.Condition_HasVector:
		return nil, unimplemented("condition has_vector")
	default:
		return nil, invalid("Wrong input: empty condition")
	}
}

func nestedOf(n *qdrant.NestedCondition) (vectorstore.Condition, error) {
	key, err := vectorstore.NewKey(n.GetKey())
	if err != nil {
		return nil, err
	}
	f, err := filterOf(n.GetFilter())
	if err != nil || f == nil {
		return vectorstore.Nested{Key: key}, err
	}
	return vectorstore.Nested{Key: key, Filter: *f}, nil
}

// fieldOf is the condition on one key; several at once must all be met.
func fieldOf(f *qdrant.FieldCondition) (vectorstore.Condition, error) {
	key, err := vectorstore.NewKey(f.GetKey())
	if err != nil {
		return nil, err
	}
	if f.GetGeoBoundingBox() != nil || f.GetGeoRadius() != nil || f.GetGeoPolygon() != nil {
		return nil, unimplemented("geo condition")
	}
	var all []vectorstore.Condition
	if m := f.GetMatch(); m != nil {
		match, err := matchOf(key, m)
		if err != nil {
			return nil, err
		}
		all = append(all, match)
	}
	if r := f.GetRange(); r != nil {
		all = append(all, vectorstore.Range{Key: key, LT: r.Lt, GT: r.Gt, GTE: r.Gte, LTE: r.Lte})
	}
	if r := f.GetDatetimeRange(); r != nil {
		all = append(all, vectorstore.TimeRange{Key: key, LT: timeOf(r.Lt), GT: timeOf(r.Gt), GTE: timeOf(r.Gte), LTE: timeOf(r.Lte)})
	}
	if n := f.GetValuesCount(); n != nil {
		all = append(all, vectorstore.ValuesCount{Key: key, LT: n.Lt, GT: n.Gt, GTE: n.Gte, LTE: n.Lte})
	}
	for _, flag := range []struct {
		wanted    *bool
		condition vectorstore.Condition
	}{{f.IsEmpty, vectorstore.IsEmpty{Key: key}}, {f.IsNull, vectorstore.IsNull{Key: key}}} {
		switch {
		case flag.wanted == nil:
		case *flag.wanted:
			all = append(all, flag.condition)
		default:
			all = append(all, vectorstore.Sub{Filter: vectorstore.Filter{MustNot: []vectorstore.Condition{flag.condition}}})
		}
	}
	switch len(all) {
	case 0:
		return nil, invalid("Wrong input: condition on %s without a rule", f.GetKey())
	case 1:
		return all[0], nil
	default:
		return vectorstore.Sub{Filter: vectorstore.Filter{Must: all}}, nil
	}
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

func matchOf(key vectorstore.Key, m *qdrant.Match) (vectorstore.Condition, error) {
	switch m := m.GetMatchValue().(type) {
	case *qdrant.Match_Keyword:
		return vectorstore.Match{Key: key, Any: []any{m.Keyword}}, nil
	case *qdrant.Match_Integer:
		return vectorstore.Match{Key: key, Any: []any{m.Integer}}, nil
	case *qdrant.Match_Boolean:
		return vectorstore.Match{Key: key, Any: []any{m.Boolean}}, nil
	case *qdrant.Match_Keywords:
		return vectorstore.Match{Key: key, Any: anys(m.Keywords.GetStrings())}, nil
	case *qdrant.Match_Integers:
		return vectorstore.Match{Key: key, Any: anys(m.Integers.GetIntegers())}, nil
	case *qdrant.Match_ExceptKeywords:
		return vectorstore.Match{Key: key, Any: anys(m.ExceptKeywords.GetStrings()), Except: true}, nil
	case *qdrant.Match_ExceptIntegers:
		return vectorstore.Match{Key: key, Any: anys(m.ExceptIntegers.GetIntegers()), Except: true}, nil
	case *qdrant.Match_Text:
		return vectorstore.MatchText{Key: key, Text: m.Text}, nil
	case *qdrant.Match_TextAny:
		return vectorstore.MatchText{Key: key, Text: m.TextAny, Any: true}, nil
	case *qdrant.Match_Phrase:
		return nil, unimplemented("match of a phrase")
	default:
		return nil, invalid("Wrong input: match of nothing")
	}
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}
