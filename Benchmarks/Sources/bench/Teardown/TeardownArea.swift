var teardownArea: [Bench.Group] {
    [
        Bench.Group(name: "module", measure: measureModuleTeardown),
        Bench.Group(name: "stop", measure: measureStop),
        Bench.Group(name: "many", measure: measureManyStops),
        Bench.Group(name: "service", measure: measureServiceStop),
        Bench.Group(name: "service-many", measure: measureManyServiceStops),
        Bench.Group(name: "neighbour", measure: measureNeighbour),
    ]
}
