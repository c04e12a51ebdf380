package qdrantserver

import (
	"context"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

const limitDefault = 10

func (s *points) Get(_ context.Context, r *qdrant.GetPoints) (*qdrant.GetResponse, error) {
	began := time.Now()
	if err := oneShard(r); err != nil {
		return nil, err
	}
	show, err := shownOf(r.GetWithPayload(), r.GetWithVectors(), false)
	if err != nil {
		return nil, err
	}
	ids, err := idsOf(r.GetIds())
	if err != nil {
		return nil, err
	}
	found, err := s.store.Get(r.GetCollectionName(), ids, show.payload, show.vectors)
	if err != nil {
		return nil, err
	}
	return &qdrant.GetResponse{Result: retrieved(found, nil, show), Time: time.Since(began).Seconds()}, nil
}

func retrieved(found []vectorstore.Point, order []float64, show shown) []*qdrant.RetrievedPoint {
	out := make([]*qdrant.RetrievedPoint, len(found))
	for i, p := range found {
		out[i] = &qdrant.RetrievedPoint{Id: toID(p.ID), Payload: show.fields(p.Payload), Vectors: toVectors(p.Vector)}
		if order != nil {
			out[i].OrderValue = orderValue(order[i])
		}
	}
	return out
}

func orderValue(v float64) *qdrant.OrderValue {
	if v == float64(int64(v)) {
		return qdrant.NewOrderValueInt(int64(v))
	}
	return qdrant.NewOrderValueFloat(v)
}

func scored(found []vectorstore.Found, show shown) []*qdrant.ScoredPoint {
	out := make([]*qdrant.ScoredPoint, len(found))
	for i, p := range found {
		out[i] = &qdrant.ScoredPoint{Id: toID(p.ID), Payload: show.fields(p.Payload), Score: p.Score, Vectors: toVectors(p.Vector)}
	}
	return out
}

// searching is what a search and a query for the nearest have in common.
type searching interface {
	keyed
	GetCollectionName() string
	GetFilter() *qdrant.Filter
	GetParams() *qdrant.SearchParams
	GetWithPayload() *qdrant.WithPayloadSelector
	GetWithVectors() *qdrant.WithVectorsSelector
	GetOffset() uint64
}

func (s *points) nearest(ctx context.Context, r searching, vector []float32, limit uint64, least *float32, without *vectorstore.PointID) ([]*qdrant.ScoredPoint, error) {
	if err := oneShard(r); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, invalid("Validation error in body: [limit: value %d invalid, must be 1 or larger]", limit)
	}
	show, err := shownOf(r.GetWithPayload(), r.GetWithVectors(), false)
	if err != nil {
		return nil, err
	}
	filter, err := filterOf(r.GetFilter())
	if err != nil {
		return nil, err
	}
	if without != nil {
		if filter == nil {
			filter = &vectorstore.Filter{}
		}
		filter.MustNot = append(filter.MustNot, vectorstore.HasID{IDs: map[vectorstore.PointID]struct{}{*without: {}}})
	}
	const most = 1 << 30
	found, err := s.store.Search(ctx, r.GetCollectionName(), vectorstore.Search{
		Vector: vector, Filter: filter, MinScore: least,
		Limit: int(min(limit, most)), Offset: int(min(r.GetOffset(), most)),
		Ef: int(min(r.GetParams().GetHnswEf(), most)), Exact: r.GetParams().GetExact(),
		Payload: show.payload, Vectors: show.vectors,
	})
	if err != nil {
		return nil, err
	}
	return scored(found, show), nil
}

func (s *points) search(ctx context.Context, r *qdrant.SearchPoints) ([]*qdrant.ScoredPoint, error) {
	switch {
	case r.GetVectorName() != "":
		return nil, unimplemented("named vectors")
	case r.GetSparseIndices() != nil:
		return nil, unimplemented("sparse vectors")
	}
	return s.nearest(ctx, r, r.GetVector(), r.GetLimit(), r.ScoreThreshold, nil)
}

func (s *points) Search(ctx context.Context, r *qdrant.SearchPoints) (*qdrant.SearchResponse, error) {
	began := time.Now()
	found, err := s.search(ctx, r)
	if err != nil {
		return nil, err
	}
	return &qdrant.SearchResponse{Result: found, Time: time.Since(began).Seconds()}, nil
}

func (s *points) SearchBatch(ctx context.Context, r *qdrant.SearchBatchPoints) (*qdrant.SearchBatchResponse, error) {
	began := time.Now()
	out := &qdrant.SearchBatchResponse{}
	for _, one := range r.GetSearchPoints() {
		if one.GetCollectionName() == "" {
			one.CollectionName = r.GetCollectionName()
		}
		found, err := s.search(ctx, one)
		if err != nil {
			return nil, err
		}
		out.Result = append(out.Result, &qdrant.BatchResult{Result: found})
	}
	out.Time = time.Since(began).Seconds()
	return out, nil
}

func (s *points) query(ctx context.Context, r *qdrant.QueryPoints) ([]*qdrant.ScoredPoint, error) {
	switch {
	case len(r.GetPrefetch()) > 0:
		return nil, unimplemented("prefetch")
	case r.GetUsing() != "":
		return nil, unimplemented("named vectors")
	case r.GetLookupFrom() != nil:
		return nil, unimplemented("lookup_from")
	}
	limit := uint64(limitDefault)
	if r.Limit != nil {
		limit = r.GetLimit()
	}
	if r.GetQuery() == nil {
		return s.inOrder(r, limit)
	}
	nearest, ok := r.GetQuery().GetVariant().(*qdrant.Query_Nearest)
	if !ok {
		return nil, unimplemented("query variant " + variantName(r.GetQuery()))
	}
	switch v := nearest.Nearest.GetVariant().(type) {
	case *qdrant.VectorInput_Dense:
		return s.nearest(ctx, r, v.Dense.GetData(), limit, r.ScoreThreshold, nil)
	case *qdrant.VectorInput_Id:
		return s.nearestTo(ctx, r, v.Id, limit)
	case *qdrant.VectorInput_Sparse:
		return nil, unimplemented("sparse vectors")
	case *qdrant.VectorInput_MultiDense:
		return nil, unimplemented("multi vectors")
	default:
		return nil, unimplemented("inference")
	}
}

// nearestTo searches for a point's neighbours, itself left out.
func (s *points) nearestTo(ctx context.Context, r *qdrant.QueryPoints, of *qdrant.PointId, limit uint64) ([]*qdrant.ScoredPoint, error) {
	id, err := idOf(of)
	if err != nil {
		return nil, err
	}
	point, err := s.store.Get(r.GetCollectionName(), []vectorstore.PointID{id}, false, true)
	if err != nil {
		return nil, err
	}
	if len(point) == 0 {
		return nil, notFound(id)
	}
	return s.nearest(ctx, r, point[0].Vector, limit, r.ScoreThreshold, &id)
}

// inOrder is a query without a query: points by id, all with score 0.
func (s *points) inOrder(r *qdrant.QueryPoints, limit uint64) ([]*qdrant.ScoredPoint, error) {
	if limit < 1 {
		return nil, invalid("Validation error in body: [limit: value %d invalid, must be 1 or larger]", limit)
	}
	show, err := shownOf(r.GetWithPayload(), r.GetWithVectors(), false)
	if err != nil {
		return nil, err
	}
	filter, err := filterOf(r.GetFilter())
	if err != nil {
		return nil, err
	}
	const most = 1 << 30
	offset := int(min(r.GetOffset(), most))
	page, err := s.store.Scroll(r.GetCollectionName(), vectorstore.Scroll{Filter: filter, Limit: int(min(limit, most)) + offset, Payload: show.payload, Vectors: show.vectors})
	if err != nil {
		return nil, err
	}
	var out []*qdrant.ScoredPoint
	for _, p := range page.Points[min(offset, len(page.Points)):] {
		out = append(out, &qdrant.ScoredPoint{Id: toID(p.ID), Payload: show.fields(p.Payload), Vectors: toVectors(p.Vector)})
	}
	return out, nil
}

func (s *points) Query(ctx context.Context, r *qdrant.QueryPoints) (*qdrant.QueryResponse, error) {
	began := time.Now()
	found, err := s.query(ctx, r)
	if err != nil {
		return nil, err
	}
	return &qdrant.QueryResponse{Result: found, Time: time.Since(began).Seconds()}, nil
}

func (s *points) QueryBatch(ctx context.Context, r *qdrant.QueryBatchPoints) (*qdrant.QueryBatchResponse, error) {
	began := time.Now()
	out := &qdrant.QueryBatchResponse{}
	for _, one := range r.GetQueryPoints() {
		if one.GetCollectionName() == "" {
			one.CollectionName = r.GetCollectionName()
		}
		found, err := s.query(ctx, one)
		if err != nil {
			return nil, err
		}
		out.Result = append(out.Result, &qdrant.BatchResult{Result: found})
	}
	out.Time = time.Since(began).Seconds()
	return out, nil
}

func (s *points) Count(_ context.Context, r *qdrant.CountPoints) (*qdrant.CountResponse, error) {
	began := time.Now()
	if err := oneShard(r); err != nil {
		return nil, err
	}
	filter, err := filterOf(r.GetFilter())
	if err != nil {
		return nil, err
	}
	n, err := s.store.Count(r.GetCollectionName(), filter)
	if err != nil {
		return nil, err
	}
	return &qdrant.CountResponse{Result: &qdrant.CountResult{Count: uint64(n)}, Time: time.Since(began).Seconds()}, nil
}
