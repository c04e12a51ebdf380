package qdrantserver

import (
	"context"
	"time"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

// snapshots makes those of the whole store. One collection's alone don't exist
// here, and deleting one would take away what the store opens from.
type snapshots struct {
	qdrant.UnimplementedSnapshotsServer
	store *vectorstore.Store
}

func (s *snapshots) CreateFull(ctx context.Context, _ *qdrant.CreateFullSnapshotRequest) (*qdrant.CreateSnapshotResponse, error) {
	began := time.Now()
	info, err := s.store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &qdrant.CreateSnapshotResponse{SnapshotDescription: snapshotOf(info), Time: time.Since(began).Seconds()}, nil
}

func (s *snapshots) ListFull(context.Context, *qdrant.ListFullSnapshotsRequest) (*qdrant.ListSnapshotsResponse, error) {
	began := time.Now()
	all, err := s.store.Snapshots()
	if err != nil {
		return nil, err
	}
	out := &qdrant.ListSnapshotsResponse{}
	for _, info := range all {
		out.SnapshotDescriptions = append(out.SnapshotDescriptions, snapshotOf(info))
	}
	out.Time = time.Since(began).Seconds()
	return out, nil
}

func snapshotOf(info vectorstore.SnapshotInfo) *qdrant.SnapshotDescription {
	return &qdrant.SnapshotDescription{Name: info.Name, Size: info.Bytes, CreationTime: timestamppb.New(info.Made)}
}
