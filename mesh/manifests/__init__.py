"""Documents that users apply (InferenceService, ServingRuntime, ...) turned into registrations."""
