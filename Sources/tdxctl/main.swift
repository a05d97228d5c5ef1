import TDXControl

ControlTool.main()
