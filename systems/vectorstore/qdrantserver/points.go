package qdrantserver

//lint:file-ignore SA1019 clients and servers of before 1.13 use these fields

import (
	"cmp"
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

// at carries changes out: each at once, or as a part of a batch.
type at struct{ *vectorstore.Changer }

func (s *points) now() at { return at{&s.store.Changer} }

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

func (s at) upsert(ctx context.Context, name string, r upserting) (vectorstore.Result, error) {
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
	return s.Changer.Upsert(ctx, name, list)
}

func (s *points) Upsert(ctx context.Context, r *qdrant.UpsertPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().upsert(ctx, r.GetCollectionName(), r)
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
func (s at) change(r keyed, which *qdrant.PointsSelector, do func(vectorstore.Selector) (vectorstore.Result, error)) (vectorstore.Result, error) {
	if err := oneShard(r); err != nil {
		return vectorstore.Result{}, err
	}
	selector, err := selectorOf(which)
	if err != nil {
		return vectorstore.Result{}, err
	}
	return do(selector)
}

func (s at) remove(ctx context.Context, name string, r keyed, which *qdrant.PointsSelector) (vectorstore.Result, error) {
	return s.change(r, which, func(selector vectorstore.Selector) (vectorstore.Result, error) {
		return s.Changer.Delete(ctx, name, selector)
	})
}

func (s *points) Delete(ctx context.Context, r *qdrant.DeletePoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().remove(ctx, r.GetCollectionName(), r, r.GetPoints())
	return answer(began, r, result, err)
}

// payloadSetting is what payload changes alone and in a batch have in common.
type payloadSetting interface {
	keyed
	GetPayload() map[string]*qdrant.Value
	GetPointsSelector() *qdrant.PointsSelector
	GetKey() string
}

func (s at) set(ctx context.Context, name string, r payloadSetting, overwrite bool) (vectorstore.Result, error) {
	payload, err := payloadOf(r.GetPayload())
	if err != nil {
		return vectorstore.Result{}, err
	}
	if overwrite && r.GetKey() != "" {
		return vectorstore.Result{}, unimplemented("overwriting a payload at a key")
	}
	return s.change(r, r.GetPointsSelector(), func(selector vectorstore.Selector) (vectorstore.Result, error) {
		if overwrite {
			return s.Changer.OverwritePayload(ctx, name, selector, payload)
		}
		return s.Changer.SetPayload(ctx, name, selector, payload, r.GetKey())
	})
}

func (s *points) SetPayload(ctx context.Context, r *qdrant.SetPayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().set(ctx, r.GetCollectionName(), r, false)
	return answer(began, r, result, err)
}

func (s *points) OverwritePayload(ctx context.Context, r *qdrant.SetPayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().set(ctx, r.GetCollectionName(), r, true)
	return answer(began, r, result, err)
}

func (s at) unset(ctx context.Context, name string, r keyed, which *qdrant.PointsSelector, keys []string) (vectorstore.Result, error) {
	return s.change(r, which, func(selector vectorstore.Selector) (vectorstore.Result, error) {
		return s.Changer.DeletePayload(ctx, name, selector, keys)
	})
}

func (s *points) DeletePayload(ctx context.Context, r *qdrant.DeletePayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().unset(ctx, r.GetCollectionName(), r, r.GetPointsSelector(), r.GetKeys())
	return answer(began, r, result, err)
}

func (s at) clear(ctx context.Context, name string, r keyed, which *qdrant.PointsSelector) (vectorstore.Result, error) {
	return s.change(r, which, func(selector vectorstore.Selector) (vectorstore.Result, error) {
		return s.Changer.ClearPayload(ctx, name, selector)
	})
}

func (s *points) ClearPayload(ctx context.Context, r *qdrant.ClearPayloadPoints) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().clear(ctx, r.GetCollectionName(), r, r.GetPoints())
	return answer(began, r, result, err)
}

// vectorUpdating is what vector updates alone and in a batch have in common.
type vectorUpdating interface {
	keyed
	GetPoints() []*qdrant.PointVectors
	GetUpdateFilter() *qdrant.Filter
}

func (s at) updateVectors(ctx context.Context, name string, r vectorUpdating) (vectorstore.Result, error) {
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
	return s.Changer.UpdateVectors(ctx, name, list)
}

func (s *points) UpdateVectors(ctx context.Context, r *qdrant.UpdatePointVectors) (*qdrant.PointsOperationResponse, error) {
	began := time.Now()
	result, err := s.now().updateVectors(ctx, r.GetCollectionName(), r)
	return answer(began, r, result, err)
}

// UpdateBatch carries changes out in order, with one commit, and stops at the
// first that fails.
func (s *points) UpdateBatch(ctx context.Context, r *qdrant.UpdateBatchPoints) (*qdrant.UpdateBatchResponse, error) {
	began := time.Now()
	batch := s.store.NewBatch()
	for _, operation := range r.GetOperations() {
		if _, err := (at{&batch.Changer}).one(ctx, r.GetCollectionName(), operation); err != nil {
			_, failed := batch.Commit(ctx) // those before it happen all the same
			return nil, cmp.Or(failed, err)
		}
	}
	result, err := batch.Commit(ctx)
	if err != nil {
		return nil, err
	}
	out := &qdrant.UpdateBatchResponse{Time: time.Since(began).Seconds()}
	for range r.GetOperations() {
		out.Result = append(out.Result, updateResult(result, r.GetWait()))
	}
	return out, nil
}

func (s at) one(ctx context.Context, name string, operation *qdrant.PointsUpdateOperation) (vectorstore.Result, error) {
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
	qdrant.FieldType_FieldTypeKeyword:  vectorstore.IndexKeyword,
	qdrant.FieldType_FieldTypeInteger:  vectorstore.IndexInteger,
	qdrant.FieldType_FieldTypeBool:     vectorstore.IndexBool,
	qdrant.FieldType_FieldTypeUuid:     vectorstore.IndexUUID,
	qdrant.FieldType_FieldTypeFloat:    vectorstore.IndexFloat,
	qdrant.FieldType_FieldTypeDatetime: vectorstore.IndexDatetime,
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
