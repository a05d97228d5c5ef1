// Class 5: the state of the module.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// SYS_INIT_NOT_PENDING: The module is initialised already.
    @inlinable public static var sysInitNotPending: TDXStatus { TDXStatus(0xC000_0500_0000_0000) }
    /// SYS_LP_INIT_NOT_DONE: This logical processor was not initialised.
    @inlinable public static var sysLPInitNotDone: TDXStatus { TDXStatus(0xC000_0502_0000_0000) }
    /// SYS_LP_INIT_DONE: This logical processor is initialised already.
    @inlinable public static var sysLPInitDone: TDXStatus { TDXStatus(0xC000_0503_0000_0000) }
    /// SYS_NOT_READY: The module's initialisation is not complete.
    @inlinable public static var sysNotReady: TDXStatus { TDXStatus(0xC000_0505_0000_0000) }
    /// SYS_SHUTDOWN: The module was shut down.
    @inlinable public static var sysShutdown: TDXStatus { TDXStatus(0xC000_0506_0000_0000) }
    /// SYS_KEY_CONFIG_NOT_PENDING: The global key cannot be configured in the module's present state.
    @inlinable public static var sysKeyConfigNotPending: TDXStatus { TDXStatus(0xC000_0507_0000_0000) }
    /// SYS_STATE_INCORRECT: The module's state does not allow the call.
    @inlinable public static var sysStateIncorrect: TDXStatus { TDXStatus(0xC000_0508_0000_0000) }
    /// SYS_INVALID_HANDOFF: The data handed over by the previous module version are not understood.
    @inlinable public static var sysInvalidHandoff: TDXStatus { TDXStatus(0xC000_0509_0000_0000) }
    /// SYS_INCOMPATIBLE_SIGSTRUCT: The new module is not compatible with the running one.
    @inlinable public static var sysIncompatibleSigstruct: TDXStatus { TDXStatus(0xC000_050A_0000_0000) }
    /// SYS_LP_INIT_NOT_PENDING: SYS.INIT was not done, or initialisation is already further on.
    @inlinable public static var sysLPInitNotPending: TDXStatus { TDXStatus(0xC000_050B_0000_0000) }
    /// SYS_CONFIG_NOT_PENDING: Some logical processor is not initialised, or configuration is done.
    @inlinable public static var sysConfigNotPending: TDXStatus { TDXStatus(0xC000_050C_0000_0000) }
    /// INCOMPATIBLE_SEAM_CAPABILITIES: The platform lacks what the module needs.
    @inlinable public static var incompatibleSEAMCapabilities: TDXStatus { TDXStatus(0xC000_050D_0000_0000) }
    /// CRYPTO_SELF_TEST_FAILED: The module's cryptography did not pass its own test.
    @inlinable public static var cryptoSelfTestFailed: TDXStatus { TDXStatus(0xC000_0511_0000_0000) }
    /// UPDATE_COMPATIBILITY_SENSITIVE: An operation is under way that an update would break.
    @inlinable public static var updateCompatibilitySensitive: TDXStatus { TDXStatus(0x8000_0512_0000_0000) }
}

extension StatusRow {
    static let system: [StatusRow] = [
        StatusRow(
            0xC000_0500, "SYS_INIT_NOT_PENDING",
            cause: "The module is initialised already.",
            nextStep: "Initialise once after each load of the module."),
        StatusRow(
            0xC000_0502, "SYS_LP_INIT_NOT_DONE",
            cause: "This logical processor was not initialised.",
            nextStep: "Run SYS.LP.INIT on it first."),
        StatusRow(
            0xC000_0503, "SYS_LP_INIT_DONE",
            cause: "This logical processor is initialised already.",
            nextStep: "Nothing to do."),
        StatusRow(
            0xC000_0505, "SYS_NOT_READY",
            cause: "The module's initialisation is not complete.",
            nextStep: "Complete SYS.CONFIG and SYS.KEY.CONFIG on every package."),
        StatusRow(
            0xC000_0506, "SYS_SHUTDOWN",
            cause: "The module was shut down.",
            nextStep: "Load the module again."),
        StatusRow(
            0xC000_0507, "SYS_KEY_CONFIG_NOT_PENDING",
            cause: "The global key cannot be configured in the module's present state.",
            nextStep: "Call SYS.CONFIG first, and each package once."),
        StatusRow(
            0xC000_0508, "SYS_STATE_INCORRECT",
            cause: "The module's state does not allow the call.",
            nextStep: "Follow the order SYS.INIT, LP.INIT, CONFIG, KEY.CONFIG, TDMR.INIT."),
        StatusRow(
            0xC000_0509, "SYS_INVALID_HANDOFF",
            cause: "The data handed over by the previous module version are not understood.",
            nextStep: "Load the module anew instead of updating it."),
        StatusRow(
            0xC000_050A, "SYS_INCOMPATIBLE_SIGSTRUCT",
            cause: "The new module is not compatible with the running one.",
            nextStep: "Choose an update that the running version accepts."),
        StatusRow(
            0xC000_050B, "SYS_LP_INIT_NOT_PENDING",
            cause: "SYS.INIT was not done, or initialisation is already further on.",
            nextStep: "Call SYS.INIT first."),
        StatusRow(
            0xC000_050C, "SYS_CONFIG_NOT_PENDING",
            cause: "Some logical processor is not initialised, or configuration is done.",
            nextStep: "Run SYS.LP.INIT on every processor first."),
        StatusRow(
            0xC000_050D, "INCOMPATIBLE_SEAM_CAPABILITIES",
            cause: "The platform lacks what the module needs.",
            nextStep: "Check firmware and module versions."),
        StatusRow(
            0xC000_0511, "CRYPTO_SELF_TEST_FAILED",
            cause: "The module's cryptography did not pass its own test.",
            nextStep: "Reload the module; suspect the hardware."),
        StatusRow(
            0x8000_0512, "UPDATE_COMPATIBILITY_SENSITIVE",
            cause: "An operation is under way that an update would break.",
            nextStep: "Finish it, then update."),
    ]
}
