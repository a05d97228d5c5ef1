var teardownArea: [Bench.Group] {
    [
        Bench.Group(name: "module", measure: measureModuleTeardown),
        Bench.Group(name: "stop", measure: measureStop),
        Bench.Group(name: "many", measure: measureManyStops),
    ]
}
