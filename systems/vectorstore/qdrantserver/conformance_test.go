package qdrantserver

//lint:file-ignore SA1019 clients and servers of before 1.13 use these fields

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestHealth(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		reply, err := client.HealthCheck(ctx)
		must(t, err)
		if reply.GetTitle() == "" || !qdrant.IsCompatible("v1.17.1", reply.GetVersion()) {
			t.Errorf("health check says %v", reply)
		}
	})
}

func TestCollections(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name := makeCollection(t, client, 3, qdrant.Distance_Euclid)
		exists, err := client.CollectionExists(ctx, name)
		must(t, err)
		names, err := client.ListCollections(ctx)
		must(t, err)
		if !exists || !slices.Contains(names, name) {
			t.Errorf("exists %v, list %v", exists, names)
		}
		err = client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: name, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: 3, Distance: qdrant.Distance_Dot})})
		wantCode(t, "create twice", err, codes.AlreadyExists)
		info, err := client.GetCollectionInfo(ctx, name)
		must(t, err)
		if params := info.GetConfig().GetParams().GetVectorsConfig().GetParams(); params.GetSize() != 3 || params.GetDistance() != qdrant.Distance_Euclid {
			t.Errorf("described as %v", params)
		}
		if info.GetStatus() != qdrant.CollectionStatus_Green || info.GetPointsCount() != 0 {
			t.Errorf("status %v, %d points", info.GetStatus(), info.GetPointsCount())
		}
		must(t, client.UpdateCollection(ctx, &qdrant.UpdateCollection{CollectionName: name, OptimizersConfig: &qdrant.OptimizersConfigDiff{IndexingThreshold: qdrant.PtrOf(uint64(5000))}}))
		info, err = client.GetCollectionInfo(ctx, name)
		must(t, err)
		if got := info.GetConfig().GetOptimizerConfig().GetIndexingThreshold(); got != 5000 {
			t.Errorf("indexing threshold is %d after setting it to 5000", got)
		}
		must(t, client.DeleteCollection(ctx, name))
		if exists, err := client.CollectionExists(ctx, name); err != nil || exists {
			t.Errorf("exists %v after its deletion, error %v", exists, err)
		}
		_, err = client.GetCollectionInfo(ctx, name)
		wantCode(t, "info of a deleted one", err, codes.NotFound)
		_, err = client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Points: []*qdrant.PointStruct{point(1, nil, 1, 2, 3)}})
		wantCode(t, "upsert into a deleted one", err, codes.NotFound)
		_, err = client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(1, 2, 3)})
		wantCode(t, "query of a deleted one", err, codes.NotFound)
	})
}

func TestScores(t *testing.T) {
	for _, test := range []struct {
		distance qdrant.Distance
		want     map[uint64]float64 // scores of the points for the query (2, 0)
	}{
		{qdrant.Distance_Cosine, map[uint64]float64{1: 1, 2: 1, 3: 0, 4: -1}},
		{qdrant.Distance_Dot, map[uint64]float64{1: 2, 2: 4, 3: 0, 4: -2}},
		{qdrant.Distance_Euclid, map[uint64]float64{1: 1, 2: 0, 3: math.Sqrt(5), 4: 3}},
	} {
		t.Run(test.distance.String(), func(t *testing.T) {
			onEach(t, func(t *testing.T, client *qdrant.Client) {
				name := makeCollection(t, client, 2, test.distance)
				upsert(t, client, name, point(1, nil, 1, 0), point(2, nil, 2, 0), point(3, nil, 0, 1), point(4, nil, -1, 0))
				found, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(2, 0)})
				must(t, err)
				scores := map[uint64]float64{}
				for i, p := range found {
					scores[p.GetId().GetNum()] = float64(p.GetScore())
					if i > 0 && (p.GetScore() < found[i-1].GetScore()) == (test.distance == qdrant.Distance_Euclid) && p.GetScore() != found[i-1].GetScore() {
						t.Errorf("order of scores: %v", found)
					}
				}
				for id, score := range test.want {
					if math.Abs(scores[id]-score) > 1e-5 {
						t.Errorf("point %d has score %v, want %v", id, scores[id], score)
					}
				}
			})
		})
	}
}

func TestFilters(t *testing.T) {
	one := func(c *qdrant.Condition) *qdrant.Filter { return &qdrant.Filter{Must: []*qdrant.Condition{c}} }
	f64, u64 := qdrant.PtrOf[float64], qdrant.PtrOf[uint64]
	tests := []struct {
		name   string
		filter *qdrant.Filter
		want   []uint64
	}{
		{"nothing asked", nil, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{"keyword", one(qdrant.NewMatch("city", "London")), []uint64{2, 4}},
		{"any of keywords", one(qdrant.NewMatchKeywords("city", "Moscow", "Paris")), []uint64{3}},
		{"except keywords", one(qdrant.NewMatchExcept("city", "London")), []uint64{1, 2, 3}},
		{"integer", one(qdrant.NewMatchInt("n", 3)), []uint64{3}},
		{"any of integers", one(qdrant.NewMatchInts("n", 3, 5)), []uint64{3, 5}},
		{"bool", one(qdrant.NewMatchBool("ok", true)), []uint64{4}},
		{"text", one(qdrant.NewMatchText("city", "osc")), []uint64{3}},
		{"range", one(qdrant.NewRange("price", &qdrant.Range{Gt: f64(1.99), Lte: f64(2.5)})), []uint64{2}},
		{"range of integers", one(qdrant.NewRange("n", &qdrant.Range{Gte: f64(6)})), []uint64{6}},
		{"time", one(qdrant.NewDatetimeRange("at", &qdrant.DatetimeRange{Gte: timestamppb.New(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))})), []uint64{5}},
		{"values count", one(qdrant.NewValuesCount("city", &qdrant.ValuesCount{Gte: u64(2)})), []uint64{2, 3}},
		{"has id", one(qdrant.NewHasID(qdrant.NewIDNum(7), qdrant.NewIDNum(1), qdrant.NewIDNum(99))), []uint64{1, 7}},
		{"is empty", one(qdrant.NewIsEmpty("city")), []uint64{5, 6, 7}},
		{"is null", one(qdrant.NewIsNull("city")), []uint64{6}},
		{"nested", one(qdrant.NewNestedFilter("in", &qdrant.Filter{Must: []*qdrant.Condition{qdrant.NewMatch("k", "x"), qdrant.NewMatchInt("v", 1)}})), []uint64{3}},
		{"nested across elements", one(qdrant.NewNestedFilter("in", &qdrant.Filter{Must: []*qdrant.Condition{qdrant.NewMatch("k", "x"), qdrant.NewMatchInt("v", 2)}})), []uint64{}},
		{"path into an array", one(qdrant.NewMatchInt("in[].v", 2)), []uint64{3}},
		{"should", &qdrant.Filter{Should: []*qdrant.Condition{qdrant.NewMatch("city", "London"), qdrant.NewMatchInt("n", 6)}}, []uint64{2, 4, 6}},
		{"must not", &qdrant.Filter{MustNot: []*qdrant.Condition{qdrant.NewMatch("city", "Berlin")}}, []uint64{4, 5, 6, 7}},
		{"must and must not", &qdrant.Filter{Must: []*qdrant.Condition{qdrant.NewMatch("city", "Berlin")}, MustNot: []*qdrant.Condition{qdrant.NewMatch("city", "London")}}, []uint64{1, 3}},
		{"min should", &qdrant.Filter{MinShould: &qdrant.MinShould{MinCount: 2, Conditions: []*qdrant.Condition{qdrant.NewMatch("city", "Berlin"), qdrant.NewMatch("city", "London"), qdrant.NewMatchInt("n", 1)}}}, []uint64{1, 2}},
		{"filter in a filter", one(qdrant.NewFilterAsCondition(&qdrant.Filter{Should: []*qdrant.Condition{qdrant.NewMatchInt("n", 1), qdrant.NewMatchInt("n", 2)}})), []uint64{1, 2}},
	}
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name := cities(t, client)
		for _, indexed := range []bool{false, true} {
			if indexed {
				for field, kind := range map[string]qdrant.FieldType{"city": qdrant.FieldType_FieldTypeKeyword, "n": qdrant.FieldType_FieldTypeInteger, "ok": qdrant.FieldType_FieldTypeBool, "price": qdrant.FieldType_FieldTypeFloat, "at": qdrant.FieldType_FieldTypeDatetime} {
					_, err := client.CreateFieldIndex(ctx, &qdrant.CreateFieldIndexCollection{CollectionName: name, FieldName: field, FieldType: &kind, Wait: qdrant.PtrOf(true)})
					must(t, err)
				}
			}
			info, err := client.GetCollectionInfo(ctx, name)
			must(t, err)
			if got := info.GetPayloadSchema()["at"].GetPoints(); indexed && got != 2 {
				t.Errorf("%d points in the index of times", got)
			}
			for _, test := range tests {
				if got := scroll(t, client, name, test.filter); !slices.Equal(got, test.want) {
					t.Errorf("%s, indexed %v: scroll gives %v, want %v", test.name, indexed, got, test.want)
				}
				if n, err := client.Count(ctx, &qdrant.CountPoints{CollectionName: name, Filter: test.filter, Exact: qdrant.PtrOf(true)}); err != nil || n != uint64(len(test.want)) {
					t.Errorf("%s, indexed %v: count %d, error %v, want %d", test.name, indexed, n, err, len(test.want))
				}
				found, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(1, 1, 1, 1), Filter: test.filter})
				must(t, err)
				got := []uint64{}
				for _, p := range found {
					got = append(got, p.GetId().GetNum())
				}
				if slices.Sort(got); !slices.Equal(got, test.want) {
					t.Errorf("%s, indexed %v: query gives %v, want %v", test.name, indexed, got, test.want)
				}
			}
		}
	})
}

func TestQueries(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name := cities(t, client)
		all, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(0.2, 0.1, 0.9, 0.7), WithPayload: qdrant.NewWithPayload(true), WithVectors: qdrant.NewWithVectors(true)})
		must(t, err)
		var order []uint64
		for _, p := range all {
			order = append(order, p.GetId().GetNum())
		}
		if !slices.Equal(order[:3], []uint64{4, 1, 3}) || len(order) != 7 {
			t.Errorf("order %v", order)
		}
		if v := all[0].GetVectors().GetVector(); !slices.Equal(v.GetDense().GetData(), []float32{0.18, 0.01, 0.85, 0.80}) && !slices.Equal(v.GetData(), []float32{0.18, 0.01, 0.85, 0.80}) {
			t.Errorf("vector %v", v)
		}
		if all[0].GetPayload()["city"].GetStringValue() != "London" {
			t.Errorf("payload %v", all[0].GetPayload())
		}
		page, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(0.2, 0.1, 0.9, 0.7), Limit: qdrant.PtrOf(uint64(2)), Offset: qdrant.PtrOf(uint64(1))})
		must(t, err)
		if len(page) != 2 || page[0].GetId().GetNum() != 1 || len(page[0].GetPayload()) != 0 || page[0].GetVectors() != nil {
			t.Errorf("second page %v", page)
		}
		above, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(0.2, 0.1, 0.9, 0.7), ScoreThreshold: qdrant.PtrOf(all[1].GetScore())})
		must(t, err)
		if len(above) != 2 {
			t.Errorf("%d points at or above the second's score", len(above))
		}
		near, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQueryID(qdrant.NewIDNum(1))})
		must(t, err)
		if len(near) != 6 || slices.ContainsFunc(near, func(p *qdrant.ScoredPoint) bool { return p.GetId().GetNum() == 1 }) {
			t.Errorf("neighbours of point 1: %v", near)
		}
		plain, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Limit: qdrant.PtrOf(uint64(3))})
		must(t, err)
		if len(plain) != 3 || plain[2].GetId().GetNum() != 3 {
			t.Errorf("query without a query: %v", plain)
		}
		batch, err := client.QueryBatch(ctx, &qdrant.QueryBatchPoints{CollectionName: name, QueryPoints: []*qdrant.QueryPoints{
			{CollectionName: name, Query: qdrant.NewQuery(1, 0, 0, 0), Limit: qdrant.PtrOf(uint64(1))},
			{CollectionName: name, Query: qdrant.NewQuery(0, 1, 0, 0), Limit: qdrant.PtrOf(uint64(2))}}})
		must(t, err)
		if len(batch) != 2 || len(batch[0].GetResult()) != 1 || batch[0].GetResult()[0].GetId().GetNum() != 7 || len(batch[1].GetResult()) != 2 {
			t.Errorf("batch %v", batch)
		}
		old, err := client.GetPointsClient().Search(ctx, &qdrant.SearchPoints{CollectionName: name, Vector: []float32{0.2, 0.1, 0.9, 0.7}, Limit: 3, Params: &qdrant.SearchParams{Exact: qdrant.PtrOf(true)}})
		must(t, err)
		if len(old.GetResult()) != 3 || old.GetResult()[0].GetId().GetNum() != 4 {
			t.Errorf("search %v", old)
		}
		_, err = client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(1, 2)})
		wantCode(t, "query of another dimension", err, codes.InvalidArgument)
		_, err = client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQuery(1, 2, 3, 4), Limit: qdrant.PtrOf(uint64(0))})
		wantCode(t, "limit 0", err, codes.InvalidArgument)
		_, err = client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQueryID(qdrant.NewIDNum(99))})
		wantCode(t, "neighbours of a missing point", err, codes.NotFound)
	})
}

func TestScroll(t *testing.T) {
	onEach(t, func(t *testing.T, client *qdrant.Client) {
		name := cities(t, client)
		const uuid = "550e8400-e29b-41d4-a716-446655440000"
		upsert(t, client, name, &qdrant.PointStruct{Id: qdrant.NewID(uuid), Vectors: qdrant.NewVectors(1, 1, 1, 1)})
		var seen []string
		var offset *qdrant.PointId
		for {
			page, next, err := client.ScrollAndOffset(ctx, &qdrant.ScrollPoints{CollectionName: name, Limit: qdrant.PtrOf(uint32(3)), Offset: offset})
			must(t, err)
			for _, p := range page {
				seen = append(seen, p.GetId().String())
			}
			if offset = next; offset == nil {
				break
			}
			if len(page) != 3 {
				t.Fatalf("%d points on a page in the middle", len(page))
			}
		}
		if len(seen) != 8 || seen[7] != qdrant.NewID(uuid).String() {
			t.Errorf("scrolled %v", seen)
		}
		kind := qdrant.FieldType_FieldTypeInteger
		_, err := client.CreateFieldIndex(ctx, &qdrant.CreateFieldIndexCollection{CollectionName: name, FieldName: "n", FieldType: &kind, Wait: qdrant.PtrOf(true)})
		must(t, err)
		down, err := client.Scroll(ctx, &qdrant.ScrollPoints{CollectionName: name, Limit: qdrant.PtrOf(uint32(3)), OrderBy: &qdrant.OrderBy{Key: "n", Direction: qdrant.Direction_Desc.Enum(), StartFrom: qdrant.NewStartFromInt(5)}})
		must(t, err)
		var ids []uint64
		for _, p := range down {
			ids = append(ids, p.GetId().GetNum())
		}
		if !slices.Equal(ids, []uint64{5, 4, 3}) {
			t.Errorf("by n, down from 5: %v", ids)
		}
		if len(down[0].GetPayload()) == 0 || down[0].GetVectors() != nil {
			t.Errorf("scroll returns payloads and no vectors unless asked otherwise: %v", down[0])
		}
		_, err = client.Scroll(ctx, &qdrant.ScrollPoints{CollectionName: name, Offset: qdrant.NewIDNum(1), OrderBy: &qdrant.OrderBy{Key: "n"}})
		wantCode(t, "offset with order_by", err, codes.InvalidArgument)
	})
}
