"""What comes from other libraries and what goes to them: their modules, NIR graphs, ONNX files.

    from timecell.exchange.snntorch import from_snntorch            # nets of a peer, as cells of ours
    from timecell.exchange.spikingjelly import from_spikingjelly
    from timecell.exchange.norse import from_norse
    from timecell.exchange.nir import from_nir, to_nir              # graphs that many tools and chips read
    from timecell.exchange.onnx import export_step                  # one instant, with state in and out

What a format or a peer means and we cannot say is refused by name; nothing is approximated.
"""
