import MemoryUnits
import Testing

@testable import ConfidentialMemory

@Suite struct ShardPlanTests {
    @Test(
        arguments: [
            (4, 256, [4]), (256, 256, [256]), (257, 256, [256, 1]), (1024, 256, [256, 256, 256, 256]),
            (2048, 256, [512, 512, 512, 512]), (2050, 256, [514, 514, 514, 508]),
        ] as [(UInt64, UInt64, [UInt64])])
    func `a region is cut into at most four even shards`(size: UInt64, least: UInt64, shards: [UInt64]) {
        let plan = ShardPlan(
            regions: [range(0, mebibytes: size)],
            policy: ShardPolicy(maximumPerRegion: 4, minimumSize: .mebibytes(least)))
        #expect(plan.shards.map(\.range.size) == shards.map { .mebibytes($0) })
    }

    @Test func `shards cover every region without gap or overlap, and end on 2 MiB borders inside one`() {
        let regions = [
            range(0, pages: 524_287), range(0xFFC0_0000, mebibytes: 4), range(1 << 32, mebibytes: 3_001),
        ]
        for count in 1...9 {
            let plan = ShardPlan(
                regions: regions, policy: ShardPolicy(maximumPerRegion: count, minimumSize: .mebibytes(2)))
            for (index, region) in regions.enumerated() {
                let shards = plan.shards.filter { $0.region == index }.map(\.range)
                #expect(shards.first?.start == region.start && shards.last?.end == region.end)
                #expect(shards.count <= count)
                for (a, b) in zip(shards, shards.dropFirst()) {
                    #expect(a.end == b.start && a.end.rawValue % (2 << 20) == 0)
                }
            }
        }
    }
}
