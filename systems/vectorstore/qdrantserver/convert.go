package qdrantserver

//lint:file-ignore SA1019 clients and servers of before 1.13 use these fields

import (
	"maps"
	"slices"
	"strings"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

func idOf(id *qdrant.PointId) (vectorstore.PointID, error) {
	switch v := id.GetPointIdOptions().(type) {
	case *qdrant.PointId_Num:
		return vectorstore.NumID(v.Num), nil
	case *qdrant.PointId_Uuid:
		return vectorstore.ParseUUID(v.Uuid)
	default:
		return vectorstore.PointID{}, invalid("Wrong input: point without an id")
	}
}

func idsOf(ids []*qdrant.PointId) ([]vectorstore.PointID, error) {
	out := make([]vectorstore.PointID, len(ids))
	for i, id := range ids {
		var err error
		if out[i], err = idOf(id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func toID(id vectorstore.PointID) *qdrant.PointId {
	if id.IsUUID {
		return qdrant.NewIDUUID(id.String())
	}
	return qdrant.NewIDNum(id.Num)
}

// nestingMax bounds payloads; protobuf itself stops at 10,000.
const nestingMax = 100

func payloadOf(fields map[string]*qdrant.Value) (vectorstore.Payload, error) {
	v, err := valueOf(qdrant.NewValueFromFields(fields), 0)
	if err != nil {
		return nil, err
	}
	object, _ := v.(map[string]any)
	return object, nil
}

func valueOf(v *qdrant.Value, depth int) (any, error) {
	if depth > nestingMax {
		return nil, invalid("Wrong input: payload nests deeper than %d", nestingMax)
	}
	switch kind := v.GetKind().(type) {
	case *qdrant.Value_BoolValue:
		return kind.BoolValue, nil
	case *qdrant.Value_IntegerValue:
		return kind.IntegerValue, nil
	case *qdrant.Value_DoubleValue:
		return kind.DoubleValue, nil
	case *qdrant.Value_StringValue:
		return kind.StringValue, nil
	case *qdrant.Value_ListValue:
		out := make([]any, len(kind.ListValue.GetValues()))
		for i, inner := range kind.ListValue.GetValues() {
			var err error
			if out[i], err = valueOf(inner, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *qdrant.Value_StructValue:
		out := make(map[string]any, len(kind.StructValue.GetFields()))
		for key, inner := range kind.StructValue.GetFields() {
			var err error
			if out[key], err = valueOf(inner, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return nil, nil // null, or nothing set
	}
}

func toFields(payload map[string]any) map[string]*qdrant.Value {
	out := make(map[string]*qdrant.Value, len(payload))
	for key, v := range payload {
		out[key] = toValue(v)
	}
	return out
}

func toValue(v any) *qdrant.Value {
	switch v := v.(type) {
	case bool:
		return qdrant.NewValueBool(v)
	case int64:
		return qdrant.NewValueInt(v)
	case float64:
		return qdrant.NewValueDouble(v)
	case string:
		return qdrant.NewValueString(v)
	case []any:
		list := &qdrant.ListValue{Values: make([]*qdrant.Value, len(v))}
		for i, inner := range v {
			list.Values[i] = toValue(inner)
		}
		return &qdrant.Value{Kind: &qdrant.Value_ListValue{ListValue: list}}
	case map[string]any:
		return &qdrant.Value{Kind: &qdrant.Value_StructValue{StructValue: &qdrant.Struct{Fields: toFields(v)}}}
	default:
		return qdrant.NewValueNull()
	}
}

// denseOf is the one unnamed dense vector of a point.
func denseOf(v *qdrant.Vectors) ([]float32, error) {
	switch options := v.GetVectorsOptions().(type) {
	case *qdrant.Vectors_Vector:
		return vectorOf(options.Vector)
	case *qdrant.Vectors_Vectors:
		if one, ok := options.Vectors.GetVectors()[""]; ok && len(options.Vectors.GetVectors()) == 1 {
			return vectorOf(one)
		}
		if len(options.Vectors.GetVectors()) > 0 {
			return nil, unimplemented("named vectors")
		}
	}
	return nil, unimplemented("a point without a vector")
}

func vectorOf(v *qdrant.Vector) ([]float32, error) {
	switch kind := v.GetVector().(type) {
	case *qdrant.Vector_Dense:
		return kind.Dense.GetData(), nil
	case nil:
		if v.GetIndices() != nil {
			return nil, unimplemented("sparse vectors")
		}
		if v.GetVectorsCount() > 1 {
			return nil, unimplemented("multi vectors")
		}
		return v.GetData(), nil
	case *qdrant.Vector_Sparse:
		return nil, unimplemented("sparse vectors")
	case *qdrant.Vector_MultiDense:
		return nil, unimplemented("multi vectors")
	default:
		return nil, unimplemented("inference")
	}
}

func toVectors(v []float32) *qdrant.VectorsOutput {
	if v == nil {
		return nil
	}
	return &qdrant.VectorsOutput{VectorsOptions: &qdrant.VectorsOutput_Vector{Vector: &qdrant.VectorOutput{
		// The first field is what clients before 1.13 read.
		Data: v, Vector: &qdrant.VectorOutput_Dense{Dense: &qdrant.DenseVector{Data: v}},
	}}}
}

// shown is what of a point goes into an answer.
type shown struct {
	payload          bool
	include, exclude []string
	vectors          bool
}

func shownOf(p *qdrant.WithPayloadSelector, v *qdrant.WithVectorsSelector, payloadByDefault bool) (shown, error) {
	s := shown{payload: payloadByDefault}
	switch options := p.GetSelectorOptions().(type) {
	case *qdrant.WithPayloadSelector_Enable:
		s.payload = options.Enable
	case *qdrant.WithPayloadSelector_Include:
		s.payload, s.include = true, slices.Concat([]string{}, options.Include.GetFields())
	case *qdrant.WithPayloadSelector_Exclude:
		s.payload, s.exclude = true, options.Exclude.GetFields()
	}
	for _, key := range slices.Concat(s.include, s.exclude) {
		if strings.ContainsAny(key, `[]"`) {
			return s, unimplemented("payload selector " + key)
		}
	}
	switch options := v.GetSelectorOptions().(type) {
	case *qdrant.WithVectorsSelector_Enable:
		s.vectors = options.Enable
	case *qdrant.WithVectorsSelector_Include:
		if slices.ContainsFunc(options.Include.GetNames(), func(name string) bool { return name != "" }) {
			return s, unimplemented("named vectors")
		}
		s.vectors = len(options.Include.GetNames()) > 0
	}
	return s, nil
}

// fields is the payload as it goes into an answer.
func (s shown) fields(payload vectorstore.Payload) map[string]*qdrant.Value {
	switch {
	case !s.payload:
		return map[string]*qdrant.Value{}
	case s.include != nil:
		return toFields(selected(payload, s.include, true))
	case s.exclude != nil:
		return toFields(selected(payload, s.exclude, false))
	default:
		return toFields(payload)
	}
}

// selected keeps the paths, or all but them.
func selected(object map[string]any, paths []string, keep bool) map[string]any {
	out := map[string]any{}
	if !keep {
		out = maps.Clone(object)
		if out == nil {
			return map[string]any{}
		}
	}
	deeper := map[string][]string{}
	for _, at := range paths {
		key, rest, nested := strings.Cut(at, ".")
		switch v, ok := object[key]; {
		case !ok:
		case nested:
			deeper[key] = append(deeper[key], rest)
		case keep:
			out[key] = v
		default:
			delete(out, key)
		}
	}
	for key, rest := range deeper {
		inner, ok := object[key].(map[string]any)
		if !ok {
			continue
		}
		if _, whole := out[key]; whole == keep {
			continue // kept or left out as a whole already
		}
		out[key] = selected(inner, rest, keep)
	}
	return out
}
