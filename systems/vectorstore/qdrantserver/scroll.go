package qdrantserver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

func notFound(id vectorstore.PointID) error {
	return fmt.Errorf("%w: No point with id %v found", vectorstore.ErrNotFound, id)
}

// variantName is the name of what a query asks for, as the protocol calls it.
func variantName(q *qdrant.Query) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", q.GetVariant()), "Query_")
	return name
}

func (s *points) Scroll(_ context.Context, r *qdrant.ScrollPoints) (*qdrant.ScrollResponse, error) {
	began := time.Now()
	if err := oneShard(r); err != nil {
		return nil, err
	}
	show, err := shownOf(r.GetWithPayload(), r.GetWithVectors(), true)
	if err != nil {
		return nil, err
	}
	q := vectorstore.Scroll{Limit: limitDefault, Payload: show.payload, Vectors: show.vectors}
	if q.Filter, err = filterOf(r.GetFilter()); err != nil {
		return nil, err
	}
	if r.Limit != nil {
		if q.Limit = int(r.GetLimit()); q.Limit < 1 {
			return nil, invalid("Validation error in body: [limit: value 0 invalid, must be 1 or larger]")
		}
	}
	if r.GetOffset() != nil {
		from, err := idOf(r.GetOffset())
		if err != nil {
			return nil, err
		}
		q.From = &from
	}
	if q.OrderBy, err = orderOf(r.GetOrderBy()); err != nil {
		return nil, err
	}
	page, err := s.store.Scroll(r.GetCollectionName(), q)
	if err != nil {
		return nil, err
	}
	out := &qdrant.ScrollResponse{Result: retrieved(page.Points, page.Order, show), Time: time.Since(began).Seconds()}
	if page.Next != nil {
		out.NextPageOffset = toID(*page.Next)
	}
	return out, nil
}

func orderOf(o *qdrant.OrderBy) (*vectorstore.OrderBy, error) {
	if o == nil {
		return nil, nil
	}
	key, err := vectorstore.NewKey(o.GetKey())
	if err != nil {
		return nil, err
	}
	out := &vectorstore.OrderBy{Key: key, Descending: o.GetDirection() == qdrant.Direction_Desc}
	var from float64
	switch start := o.GetStartFrom().GetValue().(type) {
	case *qdrant.StartFrom_Float:
		from = start.Float
	case *qdrant.StartFrom_Integer:
		from = float64(start.Integer)
	case *qdrant.StartFrom_Timestamp:
		from = float64(start.Timestamp.AsTime().UnixMicro()) / 1e6
	case *qdrant.StartFrom_Datetime:
		at, err := time.Parse(time.RFC3339Nano, start.Datetime)
		if err != nil {
			return nil, invalid("Wrong input: start_from: %v", err)
		}
		from = float64(at.UnixMicro()) / 1e6
	default:
		return out, nil
	}
	out.StartFrom = &from
	return out, nil
}
