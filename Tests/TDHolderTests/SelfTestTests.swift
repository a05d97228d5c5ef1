import ControlInterface
import FoundationEssentials
import Testing

@testable import TDHolder

@Suite struct `The self-test` {
    static func steps(_ arguments: String) throws -> (steps: [SelfTestStep], exitStatus: Int32) {
        let output = try HolderProgramUnderTest.run("selftest --json-lines \(arguments)")
        let steps = try output.lines.map { try JSONDecoder().decode(SelfTestStep.self, from: Data($0.utf8)) }
        return (steps, output.exitStatus)
    }

    static let names = ["vm", "residency"] + SelfTestScript.steps + ["spinning_guest", "release"]

    @Test(.enabled(if: canRunGuests, "no usable /dev/kvm: no vCPU can run"))
    func `A real guest runs out of guest_memfd, converts, and is stopped when it spins`() throws {
        let (steps, exitStatus) = try Self.steps("")
        #expect(steps.map(\.name) == Self.names)
        for step in steps { #expect(step.result != .fail, "\(step.name): \(step.evidence)") }
        #expect(steps.first { $0.name == "spinning_guest" }?.result == .pass)
        #expect(steps.first { $0.name == "halt" }?.result == .pass)
        // Where KVM has private memory of its own, the guest has to ask for conversions as a real one does.
        let type = testedBackends.contains(.softwareProtected) ? 1 : 0
        #expect(steps.first?.evidence.hasPrefix("VM of type \(type)") == true)
        #expect(exitStatus == 0)
    }

    @Test func `Without a vCPU every step is skipped with the reason`() throws {
        let (steps, exitStatus) = try Self.steps("--backend memfd")
        #expect(steps.map(\.name) == Self.names)
        #expect(steps.allSatisfy { $0.result == .skip && $0.evidence.contains("memfd") })
        #expect(exitStatus == 0)
    }

    @Test func `The guest's page carries its parameters and leaves room for the stack`() {
        let page = SelfTestGuest.page(at: 0x10_0000, transport: .vmmcall, dataAddress: 0x1F_8000, dataBytes: 0x1_0000)
        #expect(page.count == 4096)
        #expect(Array(page[0xF00..<0xF0C]) == [0x65, 0, 0x10, 0, 0, 0x80, 0x1F, 0, 0, 0, 1, 0])
        #expect(page[SelfTestGuest.program.count..<0xF00].allSatisfy { $0 == 0 })
    }

    @Test(arguments: [
        (ConversionTransport.port, [0xE5, 0xF0, 0xC3] as [UInt8]), (.vmmcall, [0x0F, 0x01, 0xD9, 0xC3]),
        (.vmcall, [0x0F, 0x01, 0xC1, 0xC3]),
    ])
    func `Each transport's stub is where its offset says`(_ transport: ConversionTransport, _ code: [UInt8]) {
        let start = Int(transport.rawValue)
        #expect(Array(SelfTestGuest.program[start..<start + code.count]) == code)
    }

    @Test func `The spinning entry jumps to itself`() {
        let start = Int(SelfTestGuest.spinOffset)
        #expect(Array(SelfTestGuest.program[start..<start + 2]) == [0xEB, 0xFE])
    }
}
