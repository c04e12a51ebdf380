package qdrantserver

import (
	"context"
	"errors"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

type collections struct {
	qdrant.UnimplementedCollectionsServer
	store *vectorstore.Store
}

var distances = map[qdrant.Distance]vectors.Metric{
	qdrant.Distance_Cosine: vectors.Cosine, qdrant.Distance_Dot: vectors.Dot, qdrant.Distance_Euclid: vectors.Euclid,
}

func (s *collections) Create(ctx context.Context, r *qdrant.CreateCollection) (*qdrant.CollectionOperationResponse, error) {
	began := time.Now()
	config, err := createConfig(r)
	if err != nil {
		return nil, err
	}
	if err := s.store.CreateCollection(ctx, r.GetCollectionName(), config); err != nil {
		return nil, err
	}
	return done(began), nil
}

func done(began time.Time) *qdrant.CollectionOperationResponse {
	return &qdrant.CollectionOperationResponse{Result: true, Time: time.Since(began).Seconds()}
}

func createConfig(r *qdrant.CreateCollection) (c vectorstore.CollectionConfig, err error) {
	params := r.GetVectorsConfig().GetParams()
	switch {
	case r.GetVectorsConfig().GetParamsMap() != nil:
		return c, unimplemented("named vectors")
	case len(r.GetSparseVectorsConfig().GetMap()) > 0:
		return c, unimplemented("sparse vectors")
	case params == nil:
		return c, invalid("Wrong input: a collection needs a vector configuration")
	case params.GetMultivectorConfig() != nil:
		return c, unimplemented("multi vectors")
	case params.GetDatatype() == qdrant.Datatype_Uint8, params.GetDatatype() == qdrant.Datatype_Float16:
		return c, unimplemented("datatype " + params.GetDatatype().String())
	case r.GetShardingMethod() == qdrant.ShardingMethod_Custom:
		return c, unimplemented("custom sharding")
	case r.GetStrictModeConfig().GetEnabled():
		return c, unimplemented("strict mode")
	}
	metric, known := distances[params.GetDistance()]
	if !known {
		if params.GetDistance() == qdrant.Distance_Manhattan {
			return c, unimplemented("distance Manhattan")
		}
		return c, invalid("Wrong input: unknown distance %v", params.GetDistance())
	}
	if params.GetSize() < 1 || params.GetSize() > vectors.DimMax {
		return c, invalid("Validation error in body: [vectors.size: value %d invalid, must be from 1 to %d]", params.GetSize(), vectors.DimMax)
	}
	c = vectorstore.CollectionConfig{Dim: int(params.GetSize()), Metric: metric}
	if c.Int8, err = int8Wanted(r.GetQuantizationConfig()); err != nil {
		return c, err
	}
	own, err := int8Wanted(params.GetQuantizationConfig())
	if err != nil {
		return c, err
	}
	c.Int8 = c.Int8 || own
	for _, diff := range []*qdrant.HnswConfigDiff{r.GetHnswConfig(), params.GetHnswConfig()} {
		if err := graphConfig(&c, diff); err != nil {
			return c, err
		}
	}
	if threshold := r.GetOptimizersConfig(); threshold != nil && threshold.IndexingThreshold != nil && c.IndexFromBytes >= 0 {
		c.IndexFromBytes = indexFrom(threshold.GetIndexingThreshold())
	}
	return c, nil
}

func int8Wanted(q *qdrant.QuantizationConfig) (bool, error) {
	switch {
	case q.GetProduct() != nil:
		return false, unimplemented("product quantization")
	case q.GetBinary() != nil:
		return false, unimplemented("binary quantization")
	default:
		return q.GetScalar() != nil, nil
	}
}

func graphConfig(c *vectorstore.CollectionConfig, diff *qdrant.HnswConfigDiff) error {
	if diff == nil {
		return nil
	}
	if diff.M != nil {
		switch m := diff.GetM(); {
		case m == 0: // no graph but over payload partitions, of which there are none here
			c.IndexFromBytes = -1
		case m > hnsw.MMax:
			return unimplemented("m above 32")
		default:
			c.M = int(m)
		}
	}
	if ef := diff.GetEfConstruct(); ef > 0 {
		if ef > hnsw.EfMax {
			return invalid("Wrong input: ef_construct %d, at most %d", ef, hnsw.EfMax)
		}
		c.EfConstruction = int(ef)
	}
	return nil
}

// indexFrom turns Qdrant's threshold, kilobytes with 0 for never, into the store's.
func indexFrom(kilobytes uint64) int64 {
	if kilobytes == 0 || kilobytes > 1<<50 {
		return -1
	}
	return int64(kilobytes) << 10
}

func (s *collections) Update(ctx context.Context, r *qdrant.UpdateCollection) (*qdrant.CollectionOperationResponse, error) {
	began := time.Now()
	switch {
	case r.GetHnswConfig() != nil, r.GetVectorsConfig() != nil:
		return nil, unimplemented("changing the graph of a collection")
	case r.GetQuantizationConfig() != nil:
		return nil, unimplemented("changing the quantization of a collection")
	case r.GetSparseVectorsConfig() != nil:
		return nil, unimplemented("sparse vectors")
	case r.GetStrictModeConfig().GetEnabled():
		return nil, unimplemented("strict mode")
	}
	name := r.GetCollectionName()
	if diff := r.GetOptimizersConfig(); diff != nil && diff.IndexingThreshold != nil {
		if err := s.store.SetIndexFromBytes(ctx, name, indexFrom(diff.GetIndexingThreshold())); err != nil {
			return nil, err
		}
	} else if _, err := s.store.Info(name); err != nil {
		return nil, err
	}
	return done(began), nil
}

func (s *collections) Delete(ctx context.Context, r *qdrant.DeleteCollection) (*qdrant.CollectionOperationResponse, error) {
	began := time.Now()
	err := s.store.DeleteCollection(ctx, r.GetCollectionName())
	if err != nil && !errors.Is(err, vectorstore.ErrNotFound) {
		return nil, err
	}
	answer := done(began)
	answer.Result = err == nil // deleting what is not there is no error
	return answer, nil
}

func (s *collections) List(context.Context, *qdrant.ListCollectionsRequest) (*qdrant.ListCollectionsResponse, error) {
	began := time.Now()
	out := &qdrant.ListCollectionsResponse{}
	for _, name := range s.store.Collections() {
		out.Collections = append(out.Collections, &qdrant.CollectionDescription{Name: name})
	}
	out.Time = time.Since(began).Seconds()
	return out, nil
}

func (s *collections) CollectionExists(_ context.Context, r *qdrant.CollectionExistsRequest) (*qdrant.CollectionExistsResponse, error) {
	began := time.Now()
	_, err := s.store.Info(r.GetCollectionName())
	return &qdrant.CollectionExistsResponse{Result: &qdrant.CollectionExists{Exists: err == nil}, Time: time.Since(began).Seconds()}, nil
}

var schemaTypes = map[vectorstore.IndexType]qdrant.PayloadSchemaType{
	vectorstore.IndexKeyword:  qdrant.PayloadSchemaType_Keyword,
	vectorstore.IndexInteger:  qdrant.PayloadSchemaType_Integer,
	vectorstore.IndexBool:     qdrant.PayloadSchemaType_Bool,
	vectorstore.IndexUUID:     qdrant.PayloadSchemaType_Uuid,
	vectorstore.IndexFloat:    qdrant.PayloadSchemaType_Float,
	vectorstore.IndexDatetime: qdrant.PayloadSchemaType_Datetime,
}

func (s *collections) Get(_ context.Context, r *qdrant.GetCollectionInfoRequest) (*qdrant.GetCollectionInfoResponse, error) {
	began := time.Now()
	info, err := s.store.Info(r.GetCollectionName())
	if err != nil {
		return nil, err
	}
	out := &qdrant.CollectionInfo{
		Status:          qdrant.CollectionStatus_Green,
		OptimizerStatus: &qdrant.OptimizerStatus{Ok: true},
		SegmentsCount:   1, PayloadSchema: map[string]*qdrant.PayloadSchemaInfo{},
		PointsCount: qdrant.PtrOf(uint64(info.Points)), IndexedVectorsCount: qdrant.PtrOf(uint64(info.InGraph)),
		Config: describe(info.Config),
	}
	if info.Indexing {
		out.Status = qdrant.CollectionStatus_Yellow
	}
	for key, kind := range info.FieldIndexes {
		out.PayloadSchema[key] = &qdrant.PayloadSchemaInfo{DataType: schemaTypes[kind], Points: qdrant.PtrOf(uint64(info.FieldPoints[key]))}
	}
	return &qdrant.GetCollectionInfoResponse{Result: out, Time: time.Since(began).Seconds()}, nil
}

func describe(c vectorstore.CollectionConfig) *qdrant.CollectionConfig {
	params := &qdrant.VectorParams{Size: uint64(c.Dim)}
	for distance, metric := range distances {
		if metric == c.Metric {
			params.Distance = distance
		}
	}
	m, ef, threshold := c.M, c.EfConstruction, c.IndexFromBytes
	if m == 0 {
		m = hnsw.DefaultM
	}
	if ef == 0 {
		ef = hnsw.DefaultEfConstruction
	}
	if threshold == 0 {
		threshold = vectorstore.DefaultIndexFromBytes
	}
	out := &qdrant.CollectionConfig{
		Params:          &qdrant.CollectionParams{ShardNumber: 1, OnDiskPayload: true, VectorsConfig: qdrant.NewVectorsConfig(params), ReplicationFactor: qdrant.PtrOf(uint32(1)), WriteConsistencyFactor: qdrant.PtrOf(uint32(1))},
		HnswConfig:      &qdrant.HnswConfigDiff{M: qdrant.PtrOf(uint64(m)), EfConstruct: qdrant.PtrOf(uint64(ef))},
		OptimizerConfig: &qdrant.OptimizersConfigDiff{IndexingThreshold: qdrant.PtrOf(uint64(max(threshold, 0) >> 10))},
		WalConfig:       &qdrant.WalConfigDiff{},
	}
	if c.Int8 {
		out.QuantizationConfig = qdrant.NewQuantizationScalar(&qdrant.ScalarQuantization{Type: qdrant.QuantizationType_Int8, AlwaysRam: qdrant.PtrOf(true)})
	}
	return out
}
