// A client in Go of the open inference protocol, with the stubs that Go's own generator makes: main ADDRESS MODEL.
//
// Makes the calls that the story asks for over one connection, and prints what came as one JSON object.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"mesh.test/client/inference"
)

const (
	few, many = 200, 64
	large     = 3 << 20 // Bytes; clients of Go take 4 MiB at most.
	patience  = time.Minute
)

func request(model string, raw []byte) *inference.ModelInferRequest {
	tensor := &inference.ModelInferRequest_InferInputTensor{Name: "x", Datatype: "UINT8", Shape: []int64{int64(len(raw))}}
	return &inference.ModelInferRequest{
		ModelName: model, Id: "7", Inputs: []*inference.ModelInferRequest_InferInputTensor{tensor}, RawInputContents: [][]byte{raw},
	}
}

func told(raw []byte, answer *inference.ModelInferResponse, err error) string {
	switch {
	case err != nil:
		return status.Code(err).String()
	case answer.Id != "7" || len(answer.RawOutputContents) != 1 || !bytes.Equal(answer.RawOutputContents[0], raw):
		return fmt.Sprintf("another answer: %.200v", answer)
	}
	return "OK"
}

type asking struct {
	stub  inference.GRPCInferenceServiceClient
	model string
}

func (a asking) unary(ctx context.Context, model string, raw []byte) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := a.stub.ModelInfer(ctx, request(model, raw))
	return told(raw, answer, err)
}

func (a asking) oneAfterTheOther(ctx context.Context) map[string]int {
	counts := map[string]int{}
	for number := range few {
		counts[a.unary(ctx, a.model, []byte{byte(number)})]++
	}
	return counts
}

func (a asking) atOnce(ctx context.Context) map[string]int {
	counts := map[string]int{}
	var lock sync.Mutex
	var group sync.WaitGroup
	for number := range many {
		group.Go(func() {
			said := a.unary(ctx, a.model, bytes.Repeat([]byte{byte(number)}, 1000))
			lock.Lock()
			counts[said]++
			lock.Unlock()
		})
	}
	group.Wait()
	return counts
}

func (a asking) stream(ctx context.Context) map[string]int {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "mm-model-id", a.model), patience)
	defer cancel()
	counts := map[string]int{}
	stream, err := a.stub.ModelStreamInfer(ctx)
	for number := range few {
		if err != nil {
			break
		}
		raw := []byte{byte(number)}
		if err = stream.Send(request(a.model, raw)); err != nil {
			break
		}
		var answer *inference.ModelStreamInferResponse
		if answer, err = stream.Recv(); err == nil {
			counts[told(raw, answer.GetInferResponse(), nil)]++
		}
	}
	if err == nil {
		if err = stream.CloseSend(); err == nil {
			_, err = stream.Recv()
		}
	}
	if err != io.EOF {
		counts[status.Code(err).String()]++
	}
	return counts
}

func (a asking) tooLate(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	slow := request(a.model, []byte{1})
	slow.Parameters = map[string]*inference.InferParameter{
		"test": {ParameterChoice: &inference.InferParameter_StringParam{StringParam: "test:sleep:60000"}},
	}
	_, err := a.stub.ModelInfer(ctx, slow)
	return status.Code(err).String()
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx := context.Background()
	a := asking{inference.NewGRPCInferenceServiceClient(connection), os.Args[2]}
	found := map[string]any{
		"one after the other": a.oneAfterTheOther(ctx),
		"at once":             a.atOnce(ctx),
		"large":               a.unary(ctx, a.model, bytes.Repeat([]byte{7}, large)),
		"stream":              a.stream(ctx),
		"unknown":             a.unary(ctx, "nobody", []byte{1}),
		"too late":            a.tooLate(ctx),
		"afterwards":          a.unary(ctx, a.model, []byte{1}),
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
