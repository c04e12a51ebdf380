package qdrantserver

//lint:file-ignore SA1019 clients and servers of before 1.13 use these fields

import (
	"context"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

// points changes points; query.go reads them.
type points struct {
	qdrant.UnimplementedPointsServer
	store *vectorstore.Store
}

// waiter is what all changes have.
type waiter interface{ GetWait() bool }

func answer(began time.Time, r waiter, result vectorstore.Result, err error) (*qdrant.PointsOperationResponse, error) {
	if err != nil {
		return nil, err
	}
	return &qdrant.PointsOperationResponse{Result: updateResult(result, r.GetWait()), Time: time.Since(began).Seconds()}, nil
}

func updateResult(result vectorstore.Result, wait bool) *qdrant.UpdateResult {
	status := qdrant.UpdateStatus_Acknowledged
	if wait {
		status = qdrant.UpdateStatus_Completed
	}
	return &qdrant.UpdateResult{OperationId: &result.Seq, Status: status}
}

// keyed is a request that may name shards.
type keyed interface {
	GetShardKeySelector() *qdrant.ShardKeySelector
}

func oneShard(r keyed) error {
	if s := r.GetShardKeySelector(); s != nil && len(s.GetShardKeys()) > 0 {
		return unimplemented("shard keys")
	}
	return nil
}

// upserting is what an upsert alone and one in a batch have in common.
type upserting interface {
	keyed
	GetPoints() []*qdrant.PointStruct
	GetUpdateFilter() *qdrant.Filter
	GetUpdateMode() qdrant.UpdateMode
}

func (s *points) upsert(ctx context.Context, name string, r upserting) (vectorstore.Result, error) {
	if err := oneShard(r); err != nil {
		return vectorstore.Result{}, err
	}
	switch {
	case r.GetUpdateFilter() != nil:
		return vectorstore.Result{}, unimplemented("update_filter")
	case r.GetUpdateMode() != qdrant.UpdateMode_Upsert:
		return vectorstore.Result{}, unimplemented("update_mode " + r.GetUpdateMode().String())
	}
	list := make([]vectorstore.Point, len(r.GetPoints()))
	for i, p := range r.GetPoints() {
		var err error
		if list[i].ID, err = idOf(p.GetId()); err != nil {
			return vectorstore.Result{}, err
		}
		if list[i].Vector, err = denseOf(p.GetVectors()); err != nil {
			return vectorstore.Result{}, err
		}
		if list[i].Payload, err = payloadOf(p.GetPayload()); err != nil {
			return vectorstore.Result{}, err
		}
	}
	return s.store.Upsert(ctx, name, list)
}

func (s *points) Upsert(ctx context.Context, r *qdrant.UpsertPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.upsert(ctx, r.GetCollectionName(), r)
	return answer(began, r, result, err)
}

func selectorOf(s *qdrant.PointsSelector) (vectorstore.Selector, error) {
	switch one := s.GetPointsSelectorOneOf().(type) {
	case *qdrant.PointsSelector_Points:
		ids, err := idsOf(one.Points.GetIds())
		return vectorstore.Selector{IDs: ids}, err
	case *qdrant.PointsSelector_Filter:
		f, err := filterOf(one.Filter)
		return vectorstore.Selector{ByFilter: true, Filter: f}, err
	default:
		return vectorstore.Selector{}, invalid("Wrong input: points selector is expected")
	}
}

// change carries out do on the selected points.
func (s *points) change(r keyed, which *qdrant.PointsSelector, do func(vectorstore.Selector) (vectorstore.Result, error)) (vectorstore.Result, error) {
	if err := oneShard(r); err != nil {
		return vectorstore.Result{}, err
	}
	selector, err := selectorOf(which)
	if err != nil {
		return vectorstore.Result{}, err
	}
	return do(selector)
}

func (s *points) remove(ctx context.Context, name string, r keyed, which *qdrant.PointsSelector) (vectorstore.Result, error) {
	return s.change(r, which, func(selector vectorstore.Selector) (vectorstore.Result, error) {
		return s.store.Delete(ctx, name, selector)
	})
}

func (s *points) Delete(ctx context.Context, r *qdrant.DeletePoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.remove(ctx, r.GetCollectionName(), r, r.GetPoints())
	return answer(began, r, result, err)
}

// payloadSetting is what payload changes alone and in a batch have in common.
type payloadSetting interface {
	keyed
	GetPayload() map[string]*qdrant.Value
	GetPointsSelector() *qdrant.PointsSelector
	GetKey() string
}

func (s *points) set(ctx context.Context, name string, r payloadSetting, overwrite bool) (vectorstore.Result, error) {
	payload, err := payloadOf(r.GetPayload())
	if err != nil {
		return vectorstore.Result{}, err
	}
	if overwrite && r.GetKey() != "" {
		return vectorstore.Result{}, unimplemented("overwriting a payload at a key")
	}
	return s.change(r, r.GetPointsSelector(), func(selector vectorstore.Selector) (vectorstore.Result, error) {
		if overwrite {
			return s.store.OverwritePayload(ctx, name, selector, payload)
		}
		return s.store.SetPayload(ctx, name, selector, payload, r.GetKey())
	})
}

func (s *points) SetPayload(ctx context.Context, r *qdrant.SetPayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.set(ctx, r.GetCollectionName(), r, false)
	return answer(began, r, result, err)
}

func (s *points) OverwritePayload(ctx context.Context, r *qdrant.SetPayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.set(ctx, r.GetCollectionName(), r, true)
	return answer(began, r, result, err)
}

func (s *points) unset(ctx context.Context, name string, r keyed, which *qdrant.PointsSelector, keys []string) (vectorstore.Result, error) {
	return s.change(r, which, func(selector vectorstore.Selector) (vectorstore.Result, error) {
		return s.store.DeletePayload(ctx, name, selector, keys)
	})
}

func (s *points) DeletePayload(ctx context.Context, r *qdrant.DeletePayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.unset(ctx, r.GetCollectionName(), r, r.GetPointsSelector(), r.GetKeys())
	return answer(began, r, result, err)
}

func (s *points) clear(ctx context.Context, name string, r keyed, which *qdrant.PointsSelector) (vectorstore.Result, error) {
	return s.change(r, which, func(selector vectorstore.Selector) (vectorstore.Result, error) {
		return s.store.ClearPayload(ctx, name, selector)
	})
}

func (s *points) ClearPayload(ctx context.Context, r *qdrant.ClearPayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.clear(ctx, r.GetCollectionName(), r, r.GetPoints())
	return answer(began, r, result, err)
}

// vectorUpdating is what vector updates alone and in a batch have in common.
type vectorUpdating interface {
	keyed
	GetPoints() []*qdrant.PointVectors
	GetUpdateFilter() *qdrant.Filter
}

func (s *points) updateVectors(ctx context.Context, name string, r vectorUpdating) (vectorstore.Result, error) {
	if err := oneShard(r); err != nil {
		return vectorstore.Result{}, err
	}
	if r.GetUpdateFilter() != nil {
		return vectorstore.Result{}, unimplemented("update_filter")
	}
	list := make([]vectorstore.Point, len(r.GetPoints()))
	for i, p := range r.GetPoints() {
		var err error
		if list[i].ID, err = idOf(p.GetId()); err != nil {
			return vectorstore.Result{}, err
		}
		if list[i].Vector, err = denseOf(p.GetVectors()); err != nil {
			return vectorstore.Result{}, err
		}
	}
	return s.store.UpdateVectors(ctx, name, list)
}

func (s *points) UpdateVectors(ctx context.Context, r *qdrant.UpdatePointVectors) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.updateVectors(ctx, r.GetCollectionName(), r)
	return answer(began, r, result, err)
}

// UpdateBatch carries changes out in order and stops at the first that fails.
func (s *points) UpdateBatch(ctx context.Context, r *qdrant.UpdateBatchPoints) (*qdrant.UpdateBatchResponse, error) {
	began := time.Now()
	out := &qdrant.UpdateBatchResponse{}
	for _, operation := range r.GetOperations() {
		result, err := s.one(ctx, r.GetCollectionName(), operation)
		if err != nil {
			return nil, err
		}
		out.Result = append(out.Result, updateResult(result, r.GetWait()))
	}
	out.Time = time.Since(began).Seconds()
	return out, nil
}

func (s *points) one(ctx context.Context, name string, operation *qdrant.PointsUpdateOperation) (vectorstore.Result, error) {
	var everywhere *qdrant.UpsertPoints // has no shard keys
	switch o := operation.GetOperation().(type) {
	case *qdrant.PointsUpdateOperation_Upsert:
		return s.upsert(ctx, name, o.Upsert)
	case *qdrant.PointsUpdateOperation_DeletePoints_:
		return s.remove(ctx, name, o.DeletePoints, o.DeletePoints.GetPoints())
	case *qdrant.PointsUpdateOperation_DeleteDeprecated:
		return s.remove(ctx, name, everywhere, o.DeleteDeprecated)
	case *qdrant.PointsUpdateOperation_SetPayload_:
		return s.set(ctx, name, o.SetPayload, false)
	case *qdrant.PointsUpdateOperation_OverwritePayload_:
		return s.set(ctx, name, o.OverwritePayload, true)
	case *qdrant.PointsUpdateOperation_DeletePayload_:
		return s.unset(ctx, name, o.DeletePayload, o.DeletePayload.GetPointsSelector(), o.DeletePayload.GetKeys())
	case *qdrant.PointsUpdateOperation_ClearPayload_:
		return s.clear(ctx, name, o.ClearPayload, o.ClearPayload.GetPoints())
	case *qdrant.PointsUpdateOperation_ClearPayloadDeprecated:
		return s.clear(ctx, name, everywhere, o.ClearPayloadDeprecated)
	case *qdrant.PointsUpdateOperation_UpdateVectors_:
		return s.updateVectors(ctx, name, o.UpdateVectors)
	case *qdrant.PointsUpdateOperation_DeleteVectors_:
		return vectorstore.Result{}, unimplemented("deleting vectors")
	default:
		return vectorstore.Result{}, invalid("Wrong input: empty operation")
	}
}

var fieldTypes = map[qdrant.FieldType]vectorstore.IndexType{
	qdrant.FieldType_FieldTypeKeyword: vectorstore.IndexKeyword,
	qdrant.FieldType_FieldTypeInteger: vectorstore.IndexInteger,
	qdrant.FieldType_FieldTypeBool:    vectorstore.IndexBool,
}

func (s *points) CreateFieldIndex(ctx context.Context, r *qdrant.CreateFieldIndexCollection) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	kind, known := fieldTypes[r.GetFieldType()]
	if r.FieldType == nil || !known {
		return nil, unimplemented("payload index of type " + r.GetFieldType().String())
	}
	err := s.store.CreateFieldIndex(ctx, r.GetCollectionName(), r.GetFieldName(), kind)
	return answer(began, r, vectorstore.Result{}, err)
}

func (s *points) DeleteFieldIndex(ctx context.Context, r *qdrant.DeleteFieldIndexCollection) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	err := s.store.DeleteFieldIndex(ctx, r.GetCollectionName(), r.GetFieldName())
	return answer(began, r, vectorstore.Result{}, err)
}
