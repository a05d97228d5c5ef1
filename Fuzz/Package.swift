// swift-tools-version: 6.1
import PackageDescription

/// Built by scripts/fuzz, which instruments every Swift room; an ordinary build never comes here.
let package = Package(
    name: "tdxd-fuzz",
    dependencies: [.package(name: "tdxd", path: "..")],
    targets: [
        .executableTarget(
            name: "fuzz",
            dependencies: [.product(name: "FuzzedRooms", package: "tdxd")],
            swiftSettings: [
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("InternalImportsByDefault"),
            ])
    ],
    swiftLanguageModes: [.v6]
)
