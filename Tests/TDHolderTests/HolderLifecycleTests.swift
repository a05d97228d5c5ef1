import ControlInterface
import Testing

@testable import TDHolder

@Suite struct `A holder's life` {
    @Test func `Build, stop and released follow each other`() throws {
        var life = HolderLifecycle()
        #expect(life.mayExitIdle)
        try life.build()
        #expect(!life.mayExitIdle)
        life.built()
        try life.use("Convert")
        try life.stop()
        life.stopped(failure: nil)
        #expect(life.state == .released)
    }

    @Test func `A second Build is refused in every state but empty`() throws {
        var life = HolderLifecycle()
        try life.build()
        #expect(throws: OperationRefused(operation: "Build", state: .building)) { try life.build() }
        life.built()
        #expect(throws: OperationRefused(operation: "Build", state: .runnable)) { try life.build() }
        try life.stop()
        #expect(throws: OperationRefused(operation: "Build", state: .stopping)) { try life.build() }
        life.stopped(failure: nil)
        #expect(throws: OperationRefused(operation: "Build", state: .released)) { try life.build() }
    }

    @Test func `Memory is used only while runnable`() throws {
        var life = HolderLifecycle()
        #expect(throws: OperationRefused(operation: "Map", state: .empty)) { try life.use("Map") }
        try life.build()
        #expect(throws: OperationRefused(operation: "Map", state: .building)) { try life.use("Map") }
        life.built()
        try life.stop()
        #expect(throws: OperationRefused(operation: "Map", state: .stopping)) { try life.use("Map") }
    }

    @Test func `A failed build leaves a reason and may be stopped`() throws {
        var life = HolderLifecycle()
        try life.build()
        life.buildFailed("no")
        #expect(life.state == .failed && life.reason == "no" && life.mayExitIdle)
        try life.stop()
        #expect(throws: OperationRefused(operation: "Stop", state: .stopping)) { try life.stop() }
    }

    @Test func `A stop that fails is kept as failed`() throws {
        var life = HolderLifecycle()
        try life.stop()
        life.stopped(failure: "terminate: EIO")
        #expect(life.state == .failed && life.reason == "terminate: EIO")
    }
}
