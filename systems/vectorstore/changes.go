package vectorstore

import (
	"context"
	"fmt"
)

const nameLenMax = 255

// CreateCollection makes an empty collection. Errors: ErrExists, ErrInvalid.
func (s *Store) CreateCollection(ctx context.Context, name string, config CollectionConfig) error {
	if name == "" || len(name) > nameLenMax {
		return fmt.Errorf("%w: collection name of %d bytes, want 1 to %d", ErrInvalid, len(name), nameLenMax)
	}
	if err := config.check(); err != nil {
		return err
	}
	if _, err := s.collection(name); err == nil {
		return fmt.Errorf("%w: Collection `%s` already exists", ErrExists, name)
	}
	_, err := s.change(ctx, &op{kind: opCreateCollection, collection: name, config: config})
	return err
}

// DeleteCollection removes a collection and all in it. Error: ErrNotFound.
func (s *Store) DeleteCollection(ctx context.Context, name string) error {
	return s.simple(ctx, &op{kind: opDeleteCollection, collection: name})
}

// SetIndexFromBytes changes from which size on a collection is indexed.
func (s *Store) SetIndexFromBytes(ctx context.Context, name string, bytes int64) error {
	return s.simple(ctx, &op{kind: opUpdateCollection, collection: name, config: CollectionConfig{IndexFromBytes: bytes}})
}

// CreateFieldIndex indexes the values of a payload key.
func (s *Store) CreateFieldIndex(ctx context.Context, name, key string, kind IndexType) error {
	if _, err := NewKey(key); err != nil {
		return err
	}
	if kind >= indexTypes {
		return fmt.Errorf("%w: index of type %d", ErrInvalid, kind)
	}
	return s.simple(ctx, &op{kind: opCreateIndex, collection: name, keys: []string{key}, indexType: kind})
}

// DeleteFieldIndex removes an index.
func (s *Store) DeleteFieldIndex(ctx context.Context, name, key string) error {
	return s.simple(ctx, &op{kind: opDeleteIndex, collection: name, keys: []string{key}})
}

func (s *Store) simple(ctx context.Context, o *op) error {
	if _, err := s.collection(o.collection); err != nil {
		return err
	}
	_, err := s.change(ctx, o)
	return err
}
