"""Sphinx configuration of the manual."""

from __future__ import annotations

import configparser
import pathlib

_cfg = configparser.ConfigParser()
_cfg.read(pathlib.Path(__file__).parent.parent / 'setup.cfg')

project = 'bakflow'
author = 'the bakflow authors'
copyright = author
version = release = _cfg['metadata']['version']
extensions = ['oslo_config.sphinxext', 'oslo_policy.sphinxext']
root_doc = 'index'
exclude_patterns = ['_build']
html_theme = 'alabaster'
html_theme_options = {'description': _cfg['metadata']['description'],
                      'page_width': '1080px', 'fixed_sidebar': True}
nitpicky = True
# oslo.config's own cross references of generated option tables.
nitpick_ignore_regex = [('oslo.config:.*', '.*')]
