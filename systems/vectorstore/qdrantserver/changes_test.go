package qdrantserver

//lint:file-ignore SA1019 clients and servers of before 1.13 use these fields

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

func get(t testing.TB, client *qdrant.Client, name string, id uint64) *qdrant.RetrievedPoint {
	t.Helper()
	found, err := client.Get(ctx, &qdrant.GetPoints{CollectionName: name, Ids: []*qdrant.PointId{qdrant.NewIDNum(id)}, WithPayload: qdrant.NewWithPayload(true), WithVectors: qdrant.NewWithVectors(true)})
	must(t, err)
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

func wantPayload(t testing.TB, what string, p *qdrant.RetrievedPoint, want map[string]any) {
	t.Helper()
	got, expect := &qdrant.Struct{Fields: p.GetPayload()}, &qdrant.Struct{Fields: qdrant.NewValueMap(want)}
	if !proto.Equal(got, expect) {
		t.Errorf("%s: payload %v, want %v", what, got, expect)
	}
}

func TestPayloadChanges(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name, wait := makeCollection(t, client, 2, qdrant.Distance_Dot), qdrant.PtrOf(true)
		everything := map[string]any{"null": nil, "bool": true, "int": 1 << 60, "double": 0.1, "whole": 3.0, "text": "ü\x00", "list": []any{1, "x", []any{}}, "object": map[string]any{"a": map[string]any{}}}
		upsert(t, client, name, point(1, everything, 1, 0), point(2, map[string]any{"a": 1}, 0, 1))
		wantPayload(t, "as given", get(t, client, name, 1), everything)
		one := qdrant.NewPointsSelector(qdrant.NewIDNum(2))
		_, err := client.SetPayload(ctx, &qdrant.SetPayloadPoints{CollectionName: name, Wait: wait, PointsSelector: one, Payload: qdrant.NewValueMap(map[string]any{"b": "x", "o": map[string]any{"k": 1}})})
		must(t, err)
		_, err = client.SetPayload(ctx, &qdrant.SetPayloadPoints{CollectionName: name, Wait: wait, PointsSelector: one, Key: qdrant.PtrOf("o"), Payload: qdrant.NewValueMap(map[string]any{"l": 2})})
		must(t, err)
		wantPayload(t, "set, at the top and at a key", get(t, client, name, 2), map[string]any{"a": 1, "b": "x", "o": map[string]any{"k": 1, "l": 2}})
		_, err = client.DeletePayload(ctx, &qdrant.DeletePayloadPoints{CollectionName: name, Wait: wait, PointsSelector: one, Keys: []string{"a", "o.k", "nothing"}})
		must(t, err)
		wantPayload(t, "keys deleted", get(t, client, name, 2), map[string]any{"b": "x", "o": map[string]any{"l": 2}})
		_, err = client.OverwritePayload(ctx, &qdrant.SetPayloadPoints{CollectionName: name, Wait: wait, PointsSelector: qdrant.NewPointsSelectorFilter(&qdrant.Filter{Must: []*qdrant.Condition{qdrant.NewMatch("b", "x")}}), Payload: qdrant.NewValueMap(map[string]any{"c": 3})})
		must(t, err)
		wantPayload(t, "overwritten by a filter", get(t, client, name, 2), map[string]any{"c": 3})
		wantPayload(t, "the other one", get(t, client, name, 1), everything)
		_, err = client.ClearPayload(ctx, &qdrant.ClearPayloadPoints{CollectionName: name, Wait: wait, Points: one})
		must(t, err)
		wantPayload(t, "cleared", get(t, client, name, 2), nil)
		both := qdrant.NewPointsSelector(qdrant.NewIDNum(2), qdrant.NewIDNum(77))
		_, err = client.SetPayload(ctx, &qdrant.SetPayloadPoints{CollectionName: name, Wait: wait, PointsSelector: both, Payload: qdrant.NewValueMap(map[string]any{"d": 4})})
		wantCode(t, "payload of a missing point", err, codes.NotFound)
		wantPayload(t, "the one that is there", get(t, client, name, 2), map[string]any{"d": 4})
	})
}

func TestSelectedPayload(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name := makeCollection(t, client, 2, qdrant.Distance_Dot)
		upsert(t, client, name, point(1, map[string]any{"a": 1, "o": map[string]any{"k": 1, "l": 2}}, 1, 0))
		for _, test := range []struct {
			selector *qdrant.WithPayloadSelector
			want     map[string]any
		}{
			{qdrant.NewWithPayloadInclude("a"), map[string]any{"a": 1}},
			{qdrant.NewWithPayloadInclude("o.k", "x"), map[string]any{"o": map[string]any{"k": 1}}},
			{qdrant.NewWithPayloadExclude("a"), map[string]any{"o": map[string]any{"k": 1, "l": 2}}},
			{qdrant.NewWithPayloadExclude("o.k"), map[string]any{"a": 1, "o": map[string]any{"l": 2}}},
			{qdrant.NewWithPayload(false), nil},
			{nil, nil},
		} {
			found, err := client.Get(ctx, &qdrant.GetPoints{CollectionName: name, Ids: []*qdrant.PointId{qdrant.NewIDNum(1)}, WithPayload: test.selector})
			must(t, err)
			wantPayload(t, test.selector.String(), found[0], test.want)
		}
	})
}

func TestPointChanges(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name, wait := makeCollection(t, client, 2, qdrant.Distance_Cosine), qdrant.PtrOf(true)
		upsert(t, client, name, point(1, map[string]any{"a": 1}, 3, 4), point(2, nil, 0, 1), point(3, nil, 1, 1))
		v := get(t, client, name, 1).GetVectors().GetVector()
		data := v.GetDense().GetData()
		if data == nil {
			data = v.GetData()
		}
		if len(data) != 2 || math.Abs(float64(data[0])-0.6) > 1e-6 || math.Abs(float64(data[1])-0.8) > 1e-6 {
			t.Errorf("cosine keeps vectors of length 1: %v", data)
		}
		upsert(t, client, name, point(1, map[string]any{"b": 2}, 1, 0))
		wantPayload(t, "an upsert replaces the whole point", get(t, client, name, 1), map[string]any{"b": 2})
		_, err := client.UpdateVectors(ctx, &qdrant.UpdatePointVectors{CollectionName: name, Wait: wait, Points: []*qdrant.PointVectors{{Id: qdrant.NewIDNum(1), Vectors: qdrant.NewVectors(0, -1)}}})
		must(t, err)
		wantPayload(t, "a new vector keeps the payload", get(t, client, name, 1), map[string]any{"b": 2})
		found, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(0, -1), Limit: qdrant.PtrOf(uint64(1))})
		must(t, err)
		if found[0].GetId().GetNum() != 1 {
			t.Errorf("the new vector is not searched: %v", found)
		}
		_, err = client.Delete(ctx, &qdrant.DeletePoints{CollectionName: name, Wait: wait, Points: qdrant.NewPointsSelector(qdrant.NewIDNum(2), qdrant.NewIDNum(55))})
		must(t, err)
		if got := scroll(t, client, name, nil); !slices.Equal(got, []uint64{1, 3}) {
			t.Errorf("after a deletion: %v", got)
		}
		_, err = client.UpdateBatch(ctx, &qdrant.UpdateBatchPoints{CollectionName: name, Wait: wait, Operations: []*qdrant.PointsUpdateOperation{
			qdrant.NewPointsUpdateUpsert(&qdrant.PointsUpdateOperation_PointStructList{Points: []*qdrant.PointStruct{point(9, map[string]any{"x": 1}, 1, 2)}}),
			qdrant.NewPointsUpdateSetPayload(&qdrant.PointsUpdateOperation_SetPayload{PointsSelector: qdrant.NewPointsSelector(qdrant.NewIDNum(9)), Payload: qdrant.NewValueMap(map[string]any{"y": 2})}),
			qdrant.NewPointsUpdateDeletePoints(&qdrant.PointsUpdateOperation_DeletePoints{Points: qdrant.NewPointsSelector(qdrant.NewIDNum(3))}),
		}})
		must(t, err)
		wantPayload(t, "changed in a batch", get(t, client, name, 9), map[string]any{"x": 1, "y": 2})
		_, err = client.Delete(ctx, &qdrant.DeletePoints{CollectionName: name, Wait: wait, Points: qdrant.NewPointsSelectorFilter(&qdrant.Filter{Must: []*qdrant.Condition{qdrant.NewMatchInt("x", 1)}})})
		must(t, err)
		if got := scroll(t, client, name, nil); !slices.Equal(got, []uint64{1}) {
			t.Errorf("after deleting by a filter: %v", got)
		}
		_, err = client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Wait: wait, Points: []*qdrant.PointStruct{point(5, nil, 1, 2, 3)}})
		wantCode(t, "another dimension", err, codes.InvalidArgument)
		_, err = client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Wait: wait, Points: []*qdrant.PointStruct{{Id: qdrant.NewID("no uuid"), Vectors: qdrant.NewVectors(1, 2)}}})
		wantCode(t, "bad UUID", err, codes.InvalidArgument)
		_, err = client.UpdateVectors(ctx, &qdrant.UpdatePointVectors{CollectionName: name, Wait: wait, Points: []*qdrant.PointVectors{{Id: qdrant.NewIDNum(55), Vectors: qdrant.NewVectors(0, -1)}}})
		wantCode(t, "vector of a missing point", err, codes.NotFound)
	})
}

// What is not there says so by name. A real Qdrant has it.
func TestUnimplementedIsNamed(t *testing.T) {
	s := serve(t, t.TempDir(), options)
	t.Cleanup(s.stop)
	name := cities(t, s.client)
	create := func(c *qdrant.CreateCollection) error {
		c.CollectionName = "other"
		return s.client.CreateCollection(ctx, c)
	}
	query := func(q *qdrant.QueryPoints) error {
		q.CollectionName = name
		_, err := s.client.Query(ctx, q)
		return err
	}
	params := &qdrant.VectorParams{Size: 2, Distance: qdrant.Distance_Dot}
	geo := &qdrant.Filter{Must: []*qdrant.Condition{qdrant.NewGeoRadius("x", 1, 2, 3)}}
	_, facet := s.client.Facet(ctx, &qdrant.FacetCounts{CollectionName: name, Key: "city"})
	_, groups := s.client.QueryGroups(ctx, &qdrant.QueryPointGroups{CollectionName: name, GroupBy: "city"})
	_, snapshot := s.client.CreateSnapshot(ctx, name)
	_, sparse := s.client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Points: []*qdrant.PointStruct{{Id: qdrant.NewIDNum(1), Vectors: qdrant.NewVectorsMap(map[string]*qdrant.Vector{"x": qdrant.NewVector(1)})}}})
	_, mode := s.client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, UpdateMode: qdrant.UpdateMode_InsertOnly.Enum(), Points: []*qdrant.PointStruct{point(1, nil, 1, 2, 3, 4)}})
	for what, err := range map[string]error{
		"named vectors": create(&qdrant.CreateCollection{VectorsConfig: qdrant.NewVectorsConfigMap(map[string]*qdrant.VectorParams{"a": params})}),
		"Manhattan":     create(&qdrant.CreateCollection{VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: 2, Distance: qdrant.Distance_Manhattan})}),
		"binary":        create(&qdrant.CreateCollection{VectorsConfig: qdrant.NewVectorsConfig(params), QuantizationConfig: qdrant.NewQuantizationBinary(&qdrant.BinaryQuantization{})}),
		"prefetch":      query(&qdrant.QueryPoints{Prefetch: []*qdrant.PrefetchQuery{{}}}),
		"Fusion":        query(&qdrant.QueryPoints{Query: qdrant.NewQueryFusion(qdrant.Fusion_RRF)}),
		"geo":           query(&qdrant.QueryPoints{Query: qdrant.NewQuery(1, 2, 3, 4), Filter: geo}),
		"Facet":         facet,
		"QueryGroups":   groups,
		"Create":        snapshot,
		"named":         sparse,
		"InsertOnly":    mode,
		"UpdateAliases": s.client.CreateAlias(ctx, "a", name),
	} {
		if codeOf(err) != codes.Unimplemented || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
